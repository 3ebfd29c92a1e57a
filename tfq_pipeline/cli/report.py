"""`tfq report`: the HTML page of a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from absl import flags

from tfq_pipeline.cli import arguments
from tfq_pipeline.cli.terminal import Terminal

USAGE = "RUN\n\nRUN is a folder that 'tfq quantize --report' or the demo wrote; the page is RUN/report.html."


def define(values: flags.FlagValues) -> None:
    """The verb has no flags of its own."""


def run(args: Sequence[str], values: flags.FlagValues, terminal: Terminal) -> Any:
    folder = arguments.one(args, "report", "RUN folder")
    from tfq_pipeline import report

    return {"run": folder, "report": str(report.render(folder))}


def show(document: Any, terminal: Terminal) -> None:
    print(document["report"], file=terminal.out)
