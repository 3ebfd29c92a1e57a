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
    console.print(size_line(document), soft_wrap=True)
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
    for line in delegate_lines(document["delegate"]):
        console.print(line, soft_wrap=True)


def size_line(document: Any) -> str:
    """Size, and what must not be there, in words."""
    return (
        f"{document['size_bytes']:,} bytes of the float model's {document['float_size_bytes']:,} (compression ratio"
        f" {document['compression_ratio']:.2f}); {document['float_ops']} float ops,"
        f" {document['unfolded_batch_norms']} unfolded batch norms"
    )


def delegate_lines(found: Any) -> list[str]:
    """What the delegate would take, in words: how many nodes, and for the rest each reason once."""
    if "unavailable" in found:
        return [f"delegate: not asked: {found['unavailable']}"]
    reasons: dict[str, list[str]] = {}
    for node in found["declined"]:
        ops = reasons.setdefault(node["reason"], [])
        if node["op"] not in ops:
            ops.append(node["op"])
    taken = f"delegate: takes {found['delegated']} of {found['total']} nodes"
    return [taken, *(f"delegate: leaves {', '.join(ops)}: {reason}" for reason, ops in reasons.items())]
