"""What quantization-aware training does to two of the example's nets, and what a step costs, in one run.

    python -m examples.fashion_mnist.techniques_qat [--nets resnet8,ds_cnn] [--seeds 3] [--document FILE]

Every cell is the accuracy lost on the 10,000 test images, in points, as mean and largest distance from it over seeds; a
seed chooses the order of the training images. The .tflite is compared with the fake-quantized Keras model on the same
images. Steps are timed in turns, each trainer for a few steps at a time.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from examples.fashion_mnist.tables import ENDS, drop_cell, write_table

FLAGS = flags.FLAGS
flags.DEFINE_list("nets", ["resnet8", "ds_cnn"], "Nets to train.")
flags.DEFINE_list("only", [], "Techniques to measure; all by default.")
flags.DEFINE_integer("seeds", 3, "Orders of the training images.", lower_bound=0)
flags.DEFINE_bool("steps", True, "Whether to time steps.")
flags.DEFINE_string("output", "out/techniques-qat", "Folder for techniques.json.")
flags.DEFINE_string("document", None, "Document whose tables are written anew.")

_BATCH = 64
_STEPS, _ROUNDS = 4, 9


def _recipe(bits: int, *passes: str) -> str:
    lines = (
        "fold_batch_norm",
        "calibrate: {method: moving_average}",
        f"quantize: {{weights: {{bits: {bits}, range: {'minmax' if bits == 8 else 'mse'}}}, {ENDS}}}",
        *passes,
        "convert",
    )
    return "version: 1\npasses:\n" + "".join(f"  - {line}\n" for line in lines)


def _qat(rate: str, **options: str) -> str:
    entries = {"batch_size": str(_BATCH), "samples": "19200", "learning_rate": rate, **options}
    return "qat: {" + ", ".join(f"{key}: {value}" for key, value in entries.items()) + "}"


# Techniques by the name in the table: the text of a recipe. First and last layer keep 8 bits.
TECHNIQUES: Mapping[str, str] = {
    "W8A8: min-max, moving average": _recipe(8, _qat("1e-4")),
    "W8A8: LSQ, LSQ": _recipe(8, _qat("1e-4", weights="lsq", activations="lsq")),
    "W4A8: GPTQ, not trained": _recipe(4, "gptq"),
    "W4A8: min-max, moving average": _recipe(4, _qat("5e-4")),
    "W4A8: LSQ, LSQ": _recipe(4, _qat("5e-4", weights="lsq", activations="lsq")),
    "W4A8: LSQ, LSQ+": _recipe(4, _qat("5e-4", weights="lsq", activations="lsq_plus")),
    "W4A8: LSQ, PACT": _recipe(4, _qat("5e-4", weights="lsq", activations="pact")),
    "W4A8: LSQ, LSQ from GPTQ": _recipe(4, "gptq", _qat("5e-4", weights="lsq", activations="lsq")),
    "W4A8: logarithmic, LSQ": _recipe(4, _qat("5e-4", weights="logarithmic", activations="lsq")),
    "W2A8: GPTQ, not trained": _recipe(2, "gptq"),
    "W2A8: LSQ, LSQ": _recipe(2, _qat("1e-3", weights="lsq", activations="lsq", epochs="3")),
    "W2A8: LSQ, LSQ, distilled": _recipe(
        2, _qat("1e-3", weights="lsq", activations="lsq", epochs="3", distil="{weight: 0.9}")
    ),
    "W2A8: ternary, LSQ": _recipe(2, _qat("1e-3", weights="ternary", activations="lsq", epochs="3")),
    "W1A8: binary, LSQ": _recipe(2, _qat("1e-3", weights="binary", activations="lsq", epochs="3")),
}


def measured(net: str) -> Iterator[dict[str, Any]]:
    """One entry a technique and seed."""
    import tfq_pipeline as tfq
    from tfq_pipeline import recipe

    path = Path(__file__).with_name(f"{net}.keras")
    for name in FLAGS.only or TECHNIQUES:
        for seed in range(FLAGS.seeds):
            started = time.perf_counter()
            chosen = recipe.parse(TECHNIQUES[name], name, name)
            document = tfq.quantize(
                str(path), chosen, calibration="fashion_mnist", train="fashion_mnist", data="fashion_mnist", seed=seed
            ).document
            metrics, whole = document["metrics"], document["verification"]["test"]
            entry = {
                "net": net,
                "float": metrics["float"]["accuracy"],
                "technique": name,
                "seed": seed,
                "drop": metrics["accuracy_drop"],
                "gap": metrics["accuracy_gap"],
                **whole,
                "bytes": document["inspect"]["size_bytes"],
                "seconds": round(time.perf_counter() - started, 1),
            }
            print(json.dumps(entry), file=sys.stderr, flush=True)
            yield entry


def step_times(net: str) -> dict[str, float]:
    """Median milliseconds of a training step of 64 images, by trainer."""
    import tensorflow_model_optimization as tfmot

    from tfq_pipeline import datasets, importers
    from tfq_pipeline.annotate.quantizers import Techniques
    from tfq_pipeline.annotate.scheme import annotate
    from tfq_pipeline.passes.calibrate import calibrate
    from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize

    graph: Any = importers.open_graph(str(Path(__file__).with_name(f"{net}.keras"))).graph
    folded = graph.fold_batch_norm()
    images, labels = datasets.fashion_mnist.arrays("train", hold_out=False)
    ranges = calibrate(folded, datasets.load("fashion_mnist", "calibration"), "minmax", 256)

    def ours(bits: int, how: Techniques) -> Any:
        asked = LayerRequest(Request(bits, True, "channel"), Request(8, False))
        return annotate(folded, quantize(folded, ranges, lambda *_: asked), how)

    models = {
        "float": graph.model,
        "TFMOT, 8 bits": tfmot.quantization.keras.quantize_model(graph.model),
        "min-max, moving average": ours(4, Techniques(momentum=0.99)),
        "LSQ, LSQ": ours(4, Techniques("lsq", "lsq")),
        "LSQ, LSQ+": ours(4, Techniques("lsq", "lsq_plus")),
        "LSQ, PACT": ours(4, Techniques("lsq", "pact")),
        "ternary, LSQ": ours(2, Techniques("ternary", "lsq")),
    }
    batch = images[:_BATCH], labels[:_BATCH].astype(np.int32)
    runs = {name: _stepper(model, *batch) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(_ROUNDS):
        for name, step in runs.items():
            started = time.perf_counter()
            for _ in range(_STEPS):
                step()
            seconds[name].append((time.perf_counter() - started) / _STEPS)
    return {name: 1e3 * float(np.median(values)) for name, values in seconds.items()}


def _stepper(model: Any, images: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
    """A step of `fit`, compiled."""
    import tensorflow as tf
    import tf_keras

    model.compile("adam", tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    function = model.make_train_function()
    function(batches)
    return lambda: function(batches)


def table(entries: list[dict[str, Any]]) -> str:
    """Markdown: a row a technique; by net the drop, then the largest gap and the least agreement of all."""
    nets = list(dict.fromkeys(entry["net"] for entry in entries))
    floats = {entry["net"]: entry["float"] for entry in entries}
    lines = [
        "| technique | " + " | ".join(nets) + " | largest gap | least argmax agreement |",
        "| --- |" + " --- |" * (len(nets) + 2),
        "| float accuracy | " + " | ".join(f"{floats[net]:.4f}" for net in nets) + " | | |",
    ]
    for name in dict.fromkeys(entry["technique"] for entry in entries):
        rows = [e for e in entries if e["technique"] == name]
        cells = [drop_cell([e for e in rows if e["net"] == net]) for net in nets]
        gap, agreement = max(abs(e["gap"]) for e in rows), min(e["argmax_agreement"] for e in rows)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {gap:.2f} | {100 * agreement:.2f} % |")
    return "\n".join(lines)


def step_table(times: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: a row a trainer, milliseconds by net and their ratio to the float step."""
    lines = ["| trainer | " + " | ".join(times) + " |", "| --- |" + " --- |" * len(times)]
    for name in next(iter(times.values())):
        cells = [f"{found[name]:.1f} ({found[name] / found['float']:.2f})" for found in times.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measures, writes, prints."""
    del argv
    times = {net: step_times(net) for net in FLAGS.nets} if FLAGS.steps else {}
    shown = {"step times": step_table(times)} if times else {}
    entries = [entry for net in FLAGS.nets for entry in measured(net)]
    if entries:
        shown["techniques"] = table(entries)
    output = Path(FLAGS.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "techniques.json").write_text(json.dumps({"runs": entries, "step_ms": times}, indent=1) + "\n")
    for name, text in shown.items():
        print(text)
        if FLAGS.document:
            write_table(FLAGS.document, name, text)


if __name__ == "__main__":
    app.run(main)
