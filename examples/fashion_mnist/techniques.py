"""What each post-training technique does to each of the example's nets, beside today's tools, in one run.

    python -m examples.fashion_mnist.techniques [--nets resnet8,mobilenet_v2] [--seeds 3] [--document FILE]

Every cell is the accuracy lost on the 10,000 test images, in points, as mean and largest distance from it over seeds; a
seed chooses the 512 training images to calibrate with. What was measured goes to `techniques.json` one by one and is
not measured again there unless the net, the recipe with its defaults or the samples differ; a change of the code needs
`--fresh`, and the commit stands with each result. The table between the document's markers shows all of it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from examples import tables
from examples.fashion_mnist.nets import NETS
from examples.tables import ENDS, Store, drop_cell, write_table

FLAGS = flags.FLAGS
flags.DEFINE_list("nets", list(NETS), "Nets to measure.")
flags.DEFINE_list("only", [], "Techniques to measure; all by default.")
flags.DEFINE_integer("seeds", 3, "Choices of calibration images.", lower_bound=1)
flags.DEFINE_integer("samples", 10_000, "Test images.", lower_bound=1)
flags.DEFINE_string("output", "out/techniques", "Folder for techniques.json.")
flags.DEFINE_string("document", None, "Document whose table is written anew.")
flags.DEFINE_bool("fresh", False, "Measure again what is there.")

CALIBRATION = 512


def _recipe(*passes: str, calibrate: str = "{}", weights: str = "{bits: 4}", before: str = "", first: str = "") -> str:
    lines = [
        *([first] if first else []),
        "fold_batch_norm",
        *([before] if before else []),
        f"calibrate: {calibrate}",
        f"quantize: {{weights: {weights}, {ENDS}}}",
        *passes,
        "convert",
    ]
    return "version: 1\npasses:\n" + "".join(f"  - {line}\n" for line in lines)


_INT8 = "{bits: 8}"

# Techniques by the name in the table: the text of a recipe. First and last layer keep 8 bits.
TECHNIQUES: Mapping[str, str] = {
    "int8: min-max": _recipe(weights=_INT8),
    "int8: moving average": _recipe(weights=_INT8, calibrate="{method: moving_average}"),
    "int8: percentile 99.99": _recipe(weights=_INT8, calibrate="{method: percentile, percentile: 99.99}"),
    "int8: entropy": _recipe(weights=_INT8, calibrate="{method: entropy}"),
    "int8: MSE": _recipe(weights=_INT8, calibrate="{method: mse}"),
    "int8: synthetic data": _recipe(weights=_INT8, first="synthesize: {samples: 128}"),
    "int8: noise": _recipe(weights=_INT8, first="synthesize: {source: noise, samples: 128}"),
    "W4A8: nearest": _recipe(),
    "W4A8: MSE weights": _recipe(weights="{bits: 4, range: mse}"),
    "W4A8: entropy weights": _recipe(weights="{bits: 4, range: entropy}"),
    "W4A8: percentile weights": _recipe(weights="{bits: 4, range: percentile}"),
    "W4A8: equalization": _recipe(before="cross_layer_equalization"),
    "W4A8: SmoothQuant": _recipe(before="smooth_quant"),
    "W4A8: AWQ": _recipe(before="awq"),
    "W4A8: outlier channels": _recipe(before="outlier_channels"),
    "W4A8: clipped weights and table": _recipe(before="dense_and_sparse"),
    "W4A8: bias correction": _recipe("bias_correction"),
    "W4A8: analytic bias correction": _recipe("analytic_bias_correction"),
    "W4A8: high-bias absorption": _recipe(before="high_bias_absorption"),
    "W4A8: GPTQ": _recipe("gptq"),
    "W4A8: GPTQ + QuantEase": _recipe("gptq", "quantease"),
    "W4A8: AdaRound": _recipe("adaround"),
    "W4A8: BRECQ": _recipe("brecq"),
    "W4A8: bias tuning": _recipe("bias_tuning"),
    "W4A8: GPTQ + bias tuning": _recipe("gptq", "bias_tuning"),
    "W4A8: equalization + GPTQ": _recipe("gptq", before="cross_layer_equalization"),
    "W4A8: best_wi4_ai8": _recipe("accuracy_aware: {target_drop: 0.5}"),
}


def calibration(seed: int) -> np.ndarray:
    """float32 [512, 28, 28, 1], chosen from the training images."""
    from tfq_pipeline import datasets

    images, _ = datasets.fashion_mnist.arrays("train", hold_out=False)
    return images[np.random.default_rng(seed).choice(len(images), CALIBRATION, replace=False)]


def tensorflow_int8(float_model: bytes, model: Any, images: np.ndarray) -> bytes:
    """What TFLiteConverter makes: full integer, 8 bits."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    converted: bytes = converter.convert()
    return converted


def edge_quantizer(bits: int, algorithm: str, float_model: bytes, model: Any, images: np.ndarray) -> bytes:
    """What ai-edge-quantizer makes: convolutions and dense layers at `bits` but for the first and the last layer, the
    rest at 8."""
    from ai_edge_quantizer import quantizer, recipe

    from tfq_pipeline.tflite import flatbuffer as fb

    made = quantizer.Quantizer(float_model)
    made.load_quantization_recipe(recipe.static_wi8_ai8())
    linear = [
        op for op in fb.ops(fb.read(float_model)) if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    ]
    ends = "|".join(re.escape(fb.text(op.outputs[0].name)) for op in (linear[0], linear[-1]))
    for operation in ("CONV_2D", "FULLY_CONNECTED"):
        made.update_quantization_recipe(".*", operation, _edge_config(bits), algorithm)
        made.update_quantization_recipe(ends, operation, _edge_config(8), "min_max_uniform_quantize")
    signature, (name,) = next((key, tuple(entry["inputs"])) for key, entry in _signatures(float_model).items())
    statistics = made.calibrate({signature: [{name: image[None]} for image in images]})
    return bytes(made.quantize(statistics).quantized_model)


def _edge_config(bits: int) -> Any:
    from ai_edge_quantizer import qtyping

    return qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(
            bits, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
        ),
        activation_tensor_config=qtyping.TensorQuantizationConfig(8, symmetric=False),
        compute_precision=qtyping.ComputePrecision.INTEGER,
    )


def _signatures(model: bytes) -> Mapping[str, Any]:
    from ai_edge_litert.interpreter import Interpreter

    found: Mapping[str, Any] = Interpreter(model_content=model).get_signature_list()
    return found


# Today's tools: made of the float .tflite, the Keras model and calibration images.
OPPONENTS: Mapping[str, Callable[[bytes, Any, np.ndarray], bytes]] = {
    "int8: TFLiteConverter": tensorflow_int8,
    "int8: ai-edge-quantizer": partial(edge_quantizer, 8, "min_max_uniform_quantize"),
    "W4A8: ai-edge-quantizer": partial(edge_quantizer, 4, "min_max_uniform_quantize"),
    "W4A8: ai-edge-quantizer MSE": partial(edge_quantizer, 4, "MSE"),
}


class Net:
    """A net of the example, converted once, and its accuracy on the test images."""

    def __init__(self, name: str, samples: int) -> None:
        from tfq_pipeline import datasets, pipeline

        self.path = Path(__file__).with_name(f"{name}.keras")
        self.test = datasets.load("fashion_mnist", "test").take(samples)
        self.prepared = pipeline.prepare(str(self.path))
        self.float_accuracy = self.accuracy(self.prepared.converted.data)

    def accuracy(self, data: bytes) -> float:
        """Share of the test images that a .tflite classifies right."""
        from tfq_pipeline import evaluation
        from tfq_pipeline.tflite.interpreter import open_model

        return evaluation.measure(open_model(data).run, self.test)["accuracy"]

    def quantized(self, technique: str, seed: int) -> bytes:
        """The .tflite that a technique or one of today's tools makes of it."""
        import keras

        import tfq_pipeline as tfq

        images = calibration(seed)
        if technique in OPPONENTS:
            model = keras.models.load_model(self.path)
            return OPPONENTS[technique](self.prepared.converted.data, model, images)
        return tfq.quantize(
            self.prepared, _parsed(technique), calibration=images, train="fashion_mnist", seed=seed
        ).data

    def measured(self, technique: str, seed: int) -> dict[str, Any]:
        """The drop in points and the file's size, or the first line of a refusal."""
        try:
            data = self.quantized(technique, seed)
            found: dict[str, Any] = {"drop": 100 * (self.float_accuracy - self.accuracy(data)), "bytes": len(data)}
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            found = {"refused": next(iter(str(error).splitlines()), type(error).__name__)}
        return {"float": self.float_accuracy, **found}


def _parsed(technique: str) -> Any:
    from tfq_pipeline import recipe

    return recipe.parse(TECHNIQUES[technique], technique, technique)


@functools.cache
def settings(net: str, technique: str, samples: int) -> str:
    """What a result belongs to, besides the seed: the net's file, the recipe with its defaults, and the samples."""
    recipe = "" if technique in OPPONENTS else _parsed(technique).model_dump_json()
    return tables.settings(Path(__file__).with_name(f"{net}.keras"), recipe, samples, CALIBRATION)


def table(entries: list[dict[str, Any]]) -> str:
    """Markdown: a row a technique, a column a net, in the order in which they are declared."""
    nets = [net for net in NETS if any(entry["net"] == net for entry in entries)]
    floats = {entry["net"]: entry["float"] for entry in entries}
    lines = [
        "| technique | " + " | ".join(nets) + " |",
        "| --- |" + " --- |" * len(nets),
        "| float accuracy | " + " | ".join(f"{floats[net]:.4f}" for net in nets) + " |",
    ]
    for name in (*OPPONENTS, *TECHNIQUES):
        cells = [drop_cell([e for e in entries if e["technique"] == name and e["net"] == net]) for net in nets]
        if any(cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measures, writes, prints."""
    del argv
    store = Store(Path(FLAGS.output) / "techniques.json")
    net_of = functools.cache(lambda name: Net(name, FLAGS.samples))
    keys = (
        {"net": net, "technique": technique, "seed": seed, "settings": settings(net, technique, FLAGS.samples)}
        for technique in FLAGS.only or [*OPPONENTS, *TECHNIQUES]
        for net in FLAGS.nets
        for seed in range(FLAGS.seeds)
    )
    store.fill(keys, lambda key: net_of(key["net"]).measured(key["technique"], key["seed"]), FLAGS.fresh)
    known = (*OPPONENTS, *TECHNIQUES)
    shown = table(
        [
            entry
            for entry in store.entries
            if entry["technique"] in known
            and entry["net"] in NETS
            and entry["settings"] == settings(entry["net"], entry["technique"], FLAGS.samples)
        ]
    )
    print(shown)
    if FLAGS.document:
        write_table(FLAGS.document, "techniques", shown)


if __name__ == "__main__":
    app.run(main)
