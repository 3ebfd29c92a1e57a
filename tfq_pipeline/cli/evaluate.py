"""`tfq evaluate`: the task metric of a model on labelled data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from absl import flags

from tfq_pipeline import readers
from tfq_pipeline.cli import arguments
from tfq_pipeline.cli.terminal import Terminal, table

USAGE = "MODEL --data D [--delegate int4]"


def define(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "data", None, "Labelled data: .npz, folder, package.module:function or name.", flag_values=values
    )
    flags.DEFINE_string("delegate", None, "int4, to run a .tflite through the delegate.", flag_values=values)
    flags.DEFINE_integer("num_threads", 1, "Threads of the .tflite runtime.", lower_bound=1, flag_values=values)


def run(args: Sequence[str], values: flags.FlagValues, terminal: Terminal) -> Any:
    model = arguments.one(args, "evaluate", "MODEL")
    data = arguments.needed(values.data, "data", "labelled data, such as fashion_mnist or samples.npz")
    arguments.present(model, "a .keras, .h5, SavedModel or .tflite")
    readers.require({}, data=data)
    import tfq_pipeline as tfq

    with terminal.progress() as progress:
        return tfq.evaluate(
            model, data, values.delegate, values.num_threads, lambda done, of: progress("evaluate", done, of)
        )


def show(document: Any, terminal: Terminal) -> None:
    metrics = table("metric", document["model"])
    for name, value in document["metrics"].items():
        metrics.add_row(name, f"{value:.4f}")
    terminal.console().print(metrics)
    via = f" with the {document['delegate']} delegate" if document["delegate"] else ""
    print(
        f"{document['samples']} samples in {document['seconds']:.1f} s, {document['runtime']}{via}", file=terminal.out
    )
