"""Whole models, interleaved: INT4 with the delegate, INT4 without, int8 and fp32 with XNNPACK, in one process.

    python -m delegates.int4.bench.compare --models out/bench --json out/bench/native.json mobilenet_v2

Noise of a machine is common to what runs at the same time, so all variants of a model take turns, in a new random order
each round, and a ratio is the median over rounds of the quotient of two medians of one round. Each turn warms up first.
One-thread variants run pinned to one CPU; several threads may use all that this process may.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import math
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from android_bench.latency import ratio
from delegates.int4.bench.cpu_class import CLASSES, HIDE_LIBRARY, hide
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.operators import LINEAR

Interpreter = Any

# Of the delegate's report: packed weights, tensors between its nodes, working memory of its threads.
_MEMORY = ("packed_bytes", "arena_bytes", "scratch_bytes")


@dataclass(frozen=True)
class Variant:
    """What is run: a format of the model, by this delegate or by the runtime as it comes, on so many threads."""

    format: str
    delegate: bool
    threads: int

    @property
    def name(self) -> str:
        return f"{self.format}{'+int4' if self.delegate else ''} x{self.threads}"


@dataclass(frozen=True)
class Schedule:
    """How long a comparison takes.

    Attributes:
        rounds: turns of each variant.
        warmup: runs at the begin of a turn that do not count.
        runs: least number of runs of a turn that count.
        seconds: a turn goes on until its counted runs took this long together.
        loads: how often a model is loaded to time that.
    """

    rounds: int = 15
    warmup: int = 2
    runs: int = 3
    seconds: float = 0.03
    loads: int = 5


QUICK = Schedule(rounds=2, warmup=1, runs=1, seconds=0.0, loads=1)


@dataclass
class Loaded:
    """A variant that is ready to run, and what was learned on the way."""

    variant: Variant
    interpreter: Interpreter
    prepare_ms: float
    report: Mapping[str, Any] | None

    def turn(self, schedule: Schedule) -> float:
        """Median of one turn, in milliseconds."""
        for _ in range(schedule.warmup):
            self.interpreter.invoke()
        times: list[int] = []
        while len(times) < schedule.runs or sum(times) < schedule.seconds * 1e9:
            start = time.perf_counter_ns()
            self.interpreter.invoke()
            times.append(time.perf_counter_ns() - start)
        return statistics.median(times) / 1e6


def load(path: Path, variant: Variant, cpu: str = "auto") -> Loaded:
    """Loads a model as a program would, and gives it random input.

    Args:
        cpu: highest kernel tier of the delegate.
    """
    from ai_edge_litert.interpreter import Interpreter

    from tfq_pipeline import delegate

    with tempfile.TemporaryDirectory(prefix="tfq-") as folder:
        report = Path(folder) / "report.json"
        with _without_summary():
            start = time.perf_counter_ns()
            delegates = [delegate.load(variant.threads, cpu, report=report)] if variant.delegate else None
            interpreter = Interpreter(str(path), num_threads=variant.threads, experimental_delegates=delegates)
            interpreter.allocate_tensors()
            prepare_ms = (time.perf_counter_ns() - start) / 1e6
        said = json.loads(report.read_text()) if variant.delegate else None
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        values = rng.uniform(-1, 1, detail["shape"])
        if detail["dtype"] != np.float32:
            values *= 127
        interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
    return Loaded(variant, interpreter, prepare_ms, said)


@contextlib.contextmanager
def _without_summary() -> Iterator[None]:
    """Keeps the delegate's line of how many nodes it took from stderr; what else is written comes when the block ends.

    The line comes with every layer that is loaded, and the report says the same.
    """
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            for line in file:
                if not line.startswith(b"tfq int4: took "):
                    os.write(2, line)


@contextlib.contextmanager
def _cpus(threads: int, allowed: frozenset[int]) -> Iterator[None]:
    """The calling thread on the last of the allowed CPUs for one thread, else on all of them."""
    os.sched_setaffinity(0, {max(allowed)} if threads == 1 else allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def interleave(loaded: Sequence[Loaded], schedule: Schedule, seed: int = 0) -> dict[str, list[float]]:
    """Milliseconds by variant, one entry a round; each round runs all variants in a new order."""
    allowed = frozenset(os.sched_getaffinity(0))
    order = random.Random(seed)
    times: dict[str, list[float]] = {entry.variant.name: [] for entry in loaded}
    for _ in range(schedule.rounds):
        for entry in order.sample(loaded, len(loaded)):
            with _cpus(entry.variant.threads, allowed):
                times[entry.variant.name].append(entry.turn(schedule))
    return times


def compare(
    folder: Path, model: str, threads: Sequence[int], schedule: Schedule, cpu: str = "auto", seed: int = 0
) -> dict[str, Any]:
    """Measures every variant of a model that the folder has files of.

    Returns:
        {"model", "variants": [...]}, of each variant: "name", "format", "delegate", "threads"; "bytes" of the file and
        "weight_bytes" of weights, biases and scales in it; "macs"; "median_ms", "rounds_ms", "prepare_ms"; and what the
        delegate said: "delegated", "nodes", "kernels", "memory".
    """
    variants = [
        Variant(kind, delegated, n)
        for kind in formats(folder, model)
        for delegated in ((True, False) if kind.startswith("i4") else (False,))
        for n in threads
    ]
    loaded = [load(folder / f"{model}.{v.format}.tflite", v, cpu) for v in variants]
    times = interleave(loaded, schedule, seed)
    return {"model": model, "variants": [_document(folder, model, entry, times, schedule, cpu) for entry in loaded]}


def _document(
    folder: Path, model: str, entry: Loaded, times: Mapping[str, list[float]], schedule: Schedule, cpu: str
) -> dict[str, Any]:
    path, name = folder / f"{model}.{entry.variant.format}.tflite", entry.variant.name
    file, report = fb.read(path), entry.report or {}
    return {
        "name": name,
        **vars(entry.variant),
        "bytes": path.stat().st_size,
        "weight_bytes": weight_bytes(file),
        "macs": macs(file),
        "median_ms": statistics.median(times[name]),
        "rounds_ms": times[name],
        "prepare_ms": statistics.median(load(path, entry.variant, cpu).prepare_ms for _ in range(schedule.loads)),
        "delegated": report.get("delegated", 0),
        "nodes": report.get("total"),
        "kernels": sorted({node["kernel"] for node in report.get("taken", [])}),
        "memory": {key: report[key] for key in _MEMORY if key in report},
    }


def weight_bytes(model: Any) -> int:
    """Bytes of the constant weights, biases and scales of a ModelT's linear ops: what their kernels have to keep."""
    total = 0
    for op in fb.ops(model):
        if op.name in LINEAR:
            constants = [t for t in op.inputs if t is not None and fb.is_constant(model, t)]
            total += sum(len(model.buffers[t.buffer].data) for t in constants)
            total += fb.scales(op.inputs[LINEAR[op.name].weights]).nbytes
    return total


def macs(model: Any) -> int:
    """Multiply-accumulates of a ModelT's linear ops, padding included."""
    total = 0
    for op in fb.ops(model):
        if op.name in LINEAR:
            weights = fb.shape(op.inputs[LINEAR[op.name].weights])
            of_one_output = math.prod(weights) // weights[LINEAR[op.name].channel_axis]
            total += math.prod(fb.shape(op.outputs[0])) * of_one_output
    return total


def about() -> dict[str, Any]:
    """What a result was measured with: CPU, runtime, commit and date."""
    from android_bench.device import HostDevice

    info = HostDevice().info()
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cpu": info.soc,
        "isa": list(info.isa),
        "cpus": len(os.sched_getaffinity(0)),
        "runtime": f"LiteRT {importlib.metadata.version('ai-edge-litert')}",
        "commit": commit or None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def formats(folder: Path, model: str) -> list[str]:
    """Formats of a model that a folder holds."""
    return sorted(path.name.split(".")[1] for path in folder.glob(f"{model}.*.tflite"))


def show(result: Mapping[str, Any], say: Callable[[str], None] = print) -> None:
    """A line for each variant: its time, and its ratios to int8 and to the runtime's own run of the same file."""
    times = {v["name"]: v["rounds_ms"] for v in result["variants"]}
    for v in result["variants"]:
        line = f"{result['model']:20} {v['name']:24} {v['median_ms']:9.3f} ms"
        if int8 := times.get(f"i8 x{v['threads']}"):
            r = ratio(times[v["name"]], int8)
            line += f"   of int8 {r['median']:6.3f} [{r['q1']:.3f}, {r['q3']:.3f}]"
        if v["delegate"]:
            r = ratio(times[v["name"]], times[Variant(v["format"], False, v["threads"]).name])
            line += f"   of stock {r['median']:6.3f}   nodes {v['delegated']}/{v['nodes']}"
        say(line)


def models(folder: Path) -> list[str]:
    """Models that a folder holds."""
    return sorted(path.name.split(".")[0] for path in folder.glob("*.f32.tflite"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares whole models, interleaved.")
    parser.add_argument("--models", type=Path, default=Path("out/bench"), help="folder of bench.models")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=Schedule.rounds)
    parser.add_argument("--quick", action="store_true", help="two rounds of single runs: shows that it works")
    parser.add_argument("--cpu", default="auto", help="highest kernel tier of the delegate")
    parser.add_argument("--as", dest="cpu_class", choices=list(CLASSES), default="native", help="a lesser CPU")
    parser.add_argument("--hide_library", type=Path, default=HIDE_LIBRARY, help="what --as needs")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("names", nargs="*", metavar="MODEL", help="all of the folder where none is named")
    args = parser.parse_args()
    hide(args.cpu_class, args.hide_library)
    schedule = QUICK if args.quick else Schedule(rounds=args.rounds)
    results = []
    for name in args.names or models(args.models):
        results.append(compare(args.models, name, args.threads, schedule, args.cpu))
        show(results[-1])
    if args.json:
        args.json.write_text(json.dumps({**about(), "class": args.cpu_class, "models": results}, indent=1))


if __name__ == "__main__":
    main()
