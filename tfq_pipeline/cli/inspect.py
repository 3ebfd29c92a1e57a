"""`tfq inspect`: what is in a .tflite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from absl import flags

from tfq_pipeline.cli import arguments
from tfq_pipeline.cli.terminal import Terminal, table

USAGE = "MODEL.tflite"


def define(values: flags.FlagValues) -> None:
    """The verb has no flags of its own."""


def run(args: Sequence[str], values: flags.FlagValues, terminal: Terminal) -> Any:
    path = arguments.one(args, "inspect", ".tflite file")
    import tfq_pipeline as tfq

    return tfq.inspect(path)


def show(document: Any, terminal: Terminal) -> None:
    console = terminal.console()
    console.print(
        f"{document['size_bytes']:,} bytes, {document['compression_ratio']:.2f} times smaller than the float"
        f" {document['float_size_bytes']:,}; {document['float_ops']} float ops,"
        f" {document['unfolded_batch_norms']} unfolded batch norms",
        soft_wrap=True,
    )
    console.print("ops: " + ", ".join(f"{name} {count}" for name, count in document["ops"].items()), soft_wrap=True)
    weights = table("layer", "op", "shape", "bits", "scheme", "granularity", "bytes", left=3)
    for entry in document["weights"]:
        weights.add_row(
            entry["layer"] or entry["tensor"],
            entry["op"],
            "x".join(map(str, entry["shape"])),
            str(entry["bits"]),
            entry["scheme"],
            entry["granularity"],
            f"{entry['bytes']:,}",
        )
    console.print(weights)
