"""What quantization-aware training does to example nets on real data, and what a step costs.

    python -m examples.techniques_qat [--nets vowels_conv1d,ds_cnn] [--only "W4A8: LSQ, LSQ"] [--seeds 3]
        [--document FILE]

Every cell is the accuracy lost on all test samples, in points, as mean and largest distance from it over seeds; a seed
chooses the samples to calibrate with and the order of those to train on. The .tflite is compared with the
fake-quantized Keras model on the same samples. What was measured goes to `techniques.json` one by one and is not
measured again there unless the net or the recipe with its defaults differ; a change of the code needs `--fresh`, and
the commit stands with each result. The table between the document's markers shows all of it. Steps are timed in turns,
each trainer for a few steps at a time.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from absl import app, flags

from examples import tables
from examples.tables import ENDS, Store, drop_cell, write_table


@dataclass(frozen=True)
class Subject:
    """A net that was trained on a built-in data set.

    Attributes:
        path: its file, beside this one.
        data: the data set's name.
        few, many: options of a training of 150 to 300 steps, and of one of 500 to 900.
    """

    path: str
    data: str
    few: str
    many: str

    @property
    def file(self) -> Path:
        """The whole path."""
        return Path(__file__).parent / self.path


_FASHION = ("fashion_mnist", "batch_size: 64, samples: 19200, epochs: 1", "batch_size: 64, samples: 19200, epochs: 3")

# The nets in the order of the table's columns.
SUBJECTS: Mapping[str, Subject] = {
    "digits_cnn": Subject("digits/cnn.keras", "digits", "batch_size: 32, epochs: 8", "batch_size: 32, epochs: 30"),
    "vowels_conv1d": Subject(
        "japanese_vowels/conv1d.keras", "japanese_vowels", "batch_size: 32, epochs: 20", "batch_size: 32, epochs: 80"
    ),
    "ds_cnn": Subject("fashion_mnist/ds_cnn.keras", *_FASHION),
    "resnet8": Subject("fashion_mnist/resnet8.keras", *_FASHION),
}

FLAGS = flags.FLAGS
flags.DEFINE_list("nets", ["digits_cnn", "vowels_conv1d", "ds_cnn"], f"Nets to train, of {', '.join(SUBJECTS)}.")
flags.DEFINE_multi_string("only", [], "A technique to measure, may be repeated; all by default.")
flags.DEFINE_integer("seeds", 3, "Orders of the training samples.", lower_bound=0)
flags.DEFINE_bool("steps", True, "Whether to time steps.")
flags.DEFINE_string("output", "out/techniques-qat", "Folder for techniques.json.")
flags.DEFINE_string("document", None, "Document whose tables are written anew.")
flags.DEFINE_bool("fresh", False, "Measure again what is there.")

_BATCH = 64
_STEPS, _ROUNDS = 4, 9
_TFMOT = "TFMOT, 8 bits"

_LAST = "{match: {position: last}, activations: {bits: 8}}"


def _recipe(weights: int, *passes: str, activations: int = 8) -> str:
    ranges = "minmax" if weights == 8 else "mse"
    rules = ENDS if activations == 8 else f"{ENDS[:-1]}, {_LAST}]"
    lines = (
        "fold_batch_norm",
        "calibrate: {method: " + ("moving_average" if activations == 8 else "mse") + "}",
        f"quantize: {{weights: {{bits: {weights}, range: {ranges}}}, activations: {{bits: {activations}}}, {rules}}}",
        *passes,
        "convert",
    )
    return "version: 1\npasses:\n" + "".join(f"  - {line}\n" for line in lines)


def _qat(steps: str, rate: str, weights: str = "lsq", activations: str = "lsq", distil: str = "") -> str:
    taught = f", distil: {distil}" if distil else ""
    return f"qat: {{${steps}, learning_rate: {rate}, weights: {weights}, activations: {activations}{taught}}}"


_TAUGHT = "{weight: 0.9}"
_BITS = "learn_bits: {$few, budget: {bits: 0.85}, learning_rate: 5e-4, activations: lsq}"

# Techniques by the name in the table, weights then activations: the text of a recipe, with the options of a subject
# left open. First and last layer keep 8 bits, and with activations of 4 bits so do inputs and outputs.
TECHNIQUES: Mapping[str, str] = {
    "W8A8: min-max, moving average": _recipe(8, _qat("few", "1e-4", "min_max", "moving_average")),
    "W8A8: LSQ, LSQ": _recipe(8, _qat("few", "1e-4")),
    "W4A8: GPTQ, not trained": _recipe(4, "gptq"),
    "W4A8: min-max, moving average": _recipe(4, _qat("few", "5e-4", "min_max", "moving_average")),
    "W4A8: LSQ, LSQ": _recipe(4, _qat("few", "5e-4")),
    "W4A8: LSQ, LSQ+": _recipe(4, _qat("few", "5e-4", activations="lsq_plus")),
    "W4A8: LSQ, PACT": _recipe(4, _qat("few", "5e-4", activations="pact")),
    "W4A8: LSQ, LSQ from GPTQ": _recipe(4, "gptq", _qat("few", "5e-4")),
    "W4A8: logarithmic, LSQ": _recipe(4, _qat("few", "5e-4", "logarithmic")),
    "W4A8: codebook of 16, LSQ": _recipe(4, _qat("few", "5e-4", "codebook")),
    "learned bits, 15 % fewer than W4, LSQ": _recipe(4, _BITS, _qat("few", "5e-4")),
    "W4A4: GPTQ, not trained": _recipe(4, "gptq", activations=4),
    "W4A4: LSQ, LSQ": _recipe(4, _qat("many", "3e-3"), activations=4),
    "W4A4: LSQ, LSQ, distilled": _recipe(4, _qat("many", "3e-3", distil=_TAUGHT), activations=4),
    "W2A8: GPTQ, not trained": _recipe(2, "gptq"),
    "W2A8: SEQ, LSQ": _recipe(2, _qat("many", "3e-3", "seq")),
    "W2A8: SEQ, LSQ, distilled": _recipe(2, _qat("many", "3e-3", "seq", distil=_TAUGHT)),
    "W2A8: LSQ, LSQ, distilled": _recipe(2, _qat("many", "3e-3", distil=_TAUGHT)),
    "W2A8: TWN, LSQ, distilled": _recipe(2, _qat("many", "3e-3", "ternary", distil=_TAUGHT)),
    "W2A8: TTQ, LSQ, distilled": _recipe(2, _qat("many", "3e-3", "ttq", distil=_TAUGHT)),
    "W2A8: codebook of 4, LSQ, distilled": _recipe(2, _qat("many", "3e-3", "codebook", distil=_TAUGHT)),
    "W1A8: binary, LSQ, distilled": _recipe(2, _qat("many", "3e-3", "binary", distil=_TAUGHT)),
}


@functools.cache
def parsed(net: str, technique: str) -> Any:
    """The recipe of a technique for a net."""
    from tfq_pipeline import recipe

    subject = SUBJECTS[net]
    text = Template(TECHNIQUES[technique]).substitute(few=subject.few, many=subject.many)
    return recipe.parse(text, technique, technique)


@functools.cache
def settings(net: str, technique: str) -> str:
    """What a result belongs to, besides the seed: the net's file, the data, and the recipe with its defaults."""
    return tables.settings(SUBJECTS[net].file, SUBJECTS[net].data, parsed(net, technique).model_dump_json())


def measured(net: str, technique: str, seed: int) -> dict[str, Any]:
    """Accuracy and size of what a technique makes of a net, and how like the trained model the file is."""
    import tfq_pipeline as tfq

    subject = SUBJECTS[net]
    data = subject.data
    document = tfq.quantize(
        str(subject.file), parsed(net, technique), calibration=data, train=data, data=data, seed=seed
    ).document
    metrics = document["metrics"]
    return {
        "float": metrics["float"]["accuracy"],
        "drop": metrics["accuracy_drop"],
        "gap": metrics["accuracy_gap"],
        **document["verification"]["test"],
        "bytes": document["inspect"]["size_bytes"],
    }


def step_times(net: str) -> dict[str, float]:
    """Median milliseconds of a training step of 64 samples, by trainer; TFMOT refuses some
    nets."""
    import tensorflow_model_optimization as tfmot

    from tfq_pipeline import datasets, importers
    from tfq_pipeline.annotate.quantizers import Techniques
    from tfq_pipeline.annotate.scheme import annotate
    from tfq_pipeline.passes.calibrate import calibrate
    from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize

    subject = SUBJECTS[net]
    graph: Any = importers.open_graph(str(subject.file)).graph
    folded = graph.fold_batch_norm()
    samples, labels = datasets.BUILT_IN[subject.data].arrays("train", hold_out=False)
    ranges = calibrate(folded, datasets.load(subject.data, "calibration"), "minmax", 256)

    def ours(bits: int, how: Techniques) -> Any:
        asked = LayerRequest(Request(bits, True, "channel"), Request(8, False))
        return annotate(folded, quantize(folded, ranges, lambda *_: asked), how)

    def theirs(model: Any) -> dict[str, Any]:
        try:
            return {_TFMOT: tfmot.quantization.keras.quantize_model(model)}
        except (RuntimeError, ValueError):
            return {}

    models = {
        "float": graph.model,
        **theirs(graph.model),
        "min-max, moving average": ours(4, Techniques(momentum=0.99)),
        "LSQ, LSQ": ours(4, Techniques("lsq", "lsq")),
        "LSQ, LSQ+": ours(4, Techniques("lsq", "lsq_plus")),
        "LSQ, PACT": ours(4, Techniques("lsq", "pact")),
        "SEQ, LSQ": ours(2, Techniques("seq", "lsq")),
        "ternary, LSQ": ours(2, Techniques("ternary", "lsq")),
    }
    batch = samples[:_BATCH], labels[:_BATCH].astype(np.int32)
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
    nets = [net for net in SUBJECTS if any(entry["net"] == net for entry in entries)]
    floats = {entry["net"]: entry["float"] for entry in entries}
    lines = [
        "| technique | " + " | ".join(nets) + " | largest gap | least argmax agreement |",
        "| --- |" + " --- |" * (len(nets) + 2),
        "| float accuracy | " + " | ".join(f"{floats[net]:.4f}" for net in nets) + " | | |",
    ]
    for name in TECHNIQUES:
        rows = [e for e in entries if e["technique"] == name]
        if rows:
            cells = [drop_cell([e for e in rows if e["net"] == net]) for net in nets]
            gap, agreement = max(abs(e["gap"]) for e in rows), min(e["argmax_agreement"] for e in rows)
            lines.append(f"| {name} | " + " | ".join(cells) + f" | {gap:.2f} | {100 * agreement:.2f} % |")
    return "\n".join(lines)


def step_table(times: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: a row a trainer, milliseconds by net and their ratio to the float step."""
    lines = ["| trainer | " + " | ".join(times) + " |", "| --- |" + " --- |" * len(times)]
    for name in dict.fromkeys(["float", _TFMOT, *next(iter(times.values()))]):
        cells = [
            f"{found[name]:.1f} ({found[name] / found['float']:.2f})" if name in found else "refused"
            for found in times.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measures, writes, prints."""
    del argv
    store = Store(Path(FLAGS.output) / "techniques.json")
    keys = (
        {"net": net, "technique": technique, "seed": seed, "settings": settings(net, technique)}
        for net in FLAGS.nets
        for seed in range(FLAGS.seeds)
        for technique in FLAGS.only or TECHNIQUES
    )
    store.fill(keys, lambda key: measured(key["net"], key["technique"], key["seed"]), FLAGS.fresh)
    shown = {
        "techniques": table(
            [
                entry
                for entry in store.entries
                if entry["technique"] in TECHNIQUES
                and entry["net"] in SUBJECTS
                and entry["settings"] == settings(entry["net"], entry["technique"])
            ]
        )
    }
    if FLAGS.steps:
        shown["step times"] = step_table({net: step_times(net) for net in FLAGS.nets})
    for name, text in shown.items():
        print(text)
        if FLAGS.document:
            write_table(FLAGS.document, name, text)


if __name__ == "__main__":
    app.run(main)
