"""`tfq devices`: this machine and what adb sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from absl import flags

from tfq_pipeline.cli import arguments
from tfq_pipeline.cli.terminal import Terminal

USAGE = ""


def define(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("adb_port", None, "Port of the adb server; 5037 by default.", flag_values=values)


def run(args: Sequence[str], values: flags.FlagValues, terminal: Terminal) -> Any:
    arguments.none(args, "devices")
    import tfq_pipeline as tfq

    return tfq.devices() if values.adb_port is None else tfq.devices(values.adb_port)


def show(document: Any, terminal: Terminal) -> None:
    for device in document:
        known = {k: v for k, v in device.items() if v not in (None, "", [], {})}
        print(known.pop("serial", "?"), file=terminal.out)
        for key, value in known.items():
            print(f"  {key.replace('_', ' '):<22}{_shown(value)}", file=terminal.out)


def _shown(value: Any) -> str:
    if not isinstance(value, list | tuple):
        return str(value)
    if value and isinstance(value[0], dict):
        names = [str(entry.get("name") or "?") for entry in value]
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    return " ".join(map(str, value))
