"""`tfq benchmark`: latency and memory of .tflite models on a device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from rich.table import Table

from tfq_pipeline.cli import arguments
from tfq_pipeline.cli.terminal import Terminal, table
from tfq_pipeline.errors import BadInput

USAGE = "MODEL.tflite [...] --device host|emulator|SERIAL|all [--delegate int4]"


def define(values: flags.FlagValues) -> None:
    """Names and meanings of run options are benchmark_model's."""
    flags.DEFINE_string("device", "host", "host, emulator, a serial that adb lists, or all.", flag_values=values)
    flags.DEFINE_list(
        "delegate", None, "int4, the library of an external delegate, or none; several: int4,none.", flag_values=values
    )
    flags.DEFINE_integer("rounds", 1, "Turns taken by all, then compared.", lower_bound=1, flag_values=values)
    flags.DEFINE_string("external_delegate_options", "", "'key:value;key:value' for the delegate.", flag_values=values)
    flags.DEFINE_bool("allow_undelegated", False, "A delegate that takes no node is no error.", flag_values=values)
    flags.DEFINE_enum("runtime", "litert", ["litert", "tflite"], "Runtime on the device.", flag_values=values)
    flags.DEFINE_string("runtime_library", None, "The runtime's library, for tflite.", flag_values=values)
    flags.DEFINE_string("cpu", None, "CPU that the emulator shows, such as cortex-a53.", flag_values=values)
    flags.DEFINE_integer("adb_port", None, "Port of the adb server; 5037 by default.", flag_values=values)
    flags.DEFINE_integer("num_threads", 1, "Threads.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("num_runs", 50, "Least number of measured runs.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("warmup_runs", 1, "Runs before those.", lower_bound=0, flag_values=values)
    flags.DEFINE_float("min_secs", 1.0, "Least seconds of measured runs.", lower_bound=0.0, flag_values=values)
    flags.DEFINE_float("max_secs", 150.0, "No run begins after so many seconds.", lower_bound=0.0, flag_values=values)
    flags.DEFINE_float("run_delay", -1.0, "Seconds between runs.", flag_values=values)
    flags.DEFINE_bool("use_xnnpack", True, "The runtime's own XNNPACK for the rest.", flag_values=values)
    flags.DEFINE_bool("enable_op_profiling", False, "Times by op, in a second process.", flag_values=values)


def run(args: Sequence[str], values: flags.FlagValues, terminal: Terminal) -> Any:
    if not args:
        raise BadInput("tfq benchmark takes at least one .tflite file, found none; see 'tfq benchmark --help'")
    for path in args:
        arguments.present(path, "a .tflite model")
    import tfq_pipeline as tfq
    from android_bench.experiment import Settings, delegate_options

    settings = Settings(
        threads=values.num_threads,
        runs=values.num_runs,
        warmup=values.warmup_runs,
        min_secs=values.min_secs,
        max_secs=values.max_secs,
        run_delay=values.run_delay,
        seed=values.seed,
        use_xnnpack=values.use_xnnpack,
        profile=values.enable_op_profiling,
    )
    terminal.say(f"benchmark {', '.join(args)} on {values.device}")
    return tfq.benchmark(
        list(args),
        values.device,
        [None if name == "none" else name for name in values.delegate or ["none"]],
        rounds=values.rounds,
        delegate_options=delegate_options(values.external_delegate_options),
        settings=settings,
        runtime=values.runtime,
        runtime_library=values.runtime_library,
        allow_undelegated=values.allow_undelegated,
        **{name: values[name].value for name in ("adb_port", "cpu") if values[name].value is not None},
    )


def show(document: Any, terminal: Terminal) -> None:
    compared = any(entry["of_first"] for entry in document)
    figures = ("median ms", "p95", "stddev", *(["of first (quartiles)"] if compared else []), "peak MB", "nodes")
    rows = table("model", "device", "runtime", "delegate", *figures, left=4)
    for entry in document:
        latency, nodes, ratio = entry["latency_ms"], entry["nodes"], entry["of_first"]
        peak = entry["memory"].get("peak_mb")
        rows.add_row(
            Path(entry["model"]).name,
            device_label(entry),
            f"{entry['runtime']} x{entry['threads']}",
            entry["delegate"] or "none",
            *(f"{latency[key]:.3f}" for key in ("median", "p95", "stddev")),
            *([f"{ratio['median']:.3f} ({ratio['q1']:.3f} to {ratio['q3']:.3f})"] if compared else []),
            "" if peak is None else f"{peak:.1f}",
            "" if nodes["delegated"] is None else f"{nodes['delegated']}/{nodes['total']}",
        )
    console = terminal.console()
    console.print(rows)
    for entry in document:
        declined = Counter(f"{left['op']}: {left['reason']}" for left in entry["nodes"]["declined"])
        for reason, count in declined.items():
            console.print(f"{entry['model']}: left to the runtime: {count} x {reason}", soft_wrap=True)
    for entry in document:
        if entry["ops"]:
            console.print(op_table(entry))
    if any(entry["emulated"] for entry in document):
        console.print("emulated: times show that it runs, not how fast a phone is")


def op_table(entry: Any) -> Table:
    """Times by op. What runs inside another delegate's op is indented; the delegate's nodes say kernel and shapes."""
    rows = table("op", "node", "kernel", "inputs", "output", "calls", "avg ms", "median ms", left=5)
    rows.title = f"{entry['model']} on {device_label(entry)}, delegate {entry['delegate'] or 'none'}, by op"
    for op in entry["ops"]:
        rows.add_row(
            ("  " if op["inside_delegate"] else "") + op["name"],
            str(op["node"]),
            op["kernel"] or "",
            *(" ".join("x".join(map(str, dims)) for dims in op[key] or []) for key in ("inputs", "outputs")),
            str(op["calls"]),
            f"{op['avg_ms']:.4f}",
            "" if op["median_ms"] is None else f"{op['median_ms']:.4f}",
        )
    return rows


def device_label(entry: Any) -> str:
    """A device in a few words, saying where it is emulated."""
    device = entry["device"]
    name = device if isinstance(device, str) else device.get("serial") or device.get("model") or "?"
    return f"{name} (emulated)" if entry["emulated"] else str(name)
