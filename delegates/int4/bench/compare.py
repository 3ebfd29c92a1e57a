"""Whole models, interleaved: INT4 with the delegate, INT4 without, int8 and fp32 with XNNPACK, in one process.

    python -m delegates.int4.bench.compare --models out/bench --json out/bench/models.json

Noise of a machine is common to what runs at the same time, so all variants of a model take turns, in a new random order
each round, and a ratio is the median over rounds of the quotient of two medians of one round. Each turn warms up first.
One-thread variants run pinned to one CPU; several threads may use all that this process may.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delegates.int4.bench.cpu_class import CLASSES, hide

Interpreter = Any

_HIDE_LIBRARY = Path("build/native/host/delegates/int4/libint4_hide_features.so")


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
    """

    rounds: int = 15
    warmup: int = 2
    runs: int = 3
    seconds: float = 0.03


QUICK = Schedule(rounds=2, warmup=1, runs=1, seconds=0.0)


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


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """Median and quartiles over rounds of the quotient of two variants' times."""
    quotients = [a / b for a, b in zip(over, under, strict=True)]
    if len(quotients) < 2:
        return dict.fromkeys(("median", "q1", "q3"), quotients[0])
    q1, median, q3 = statistics.quantiles(quotients, n=4, method="inclusive")
    return {"median": median, "q1": q1, "q3": q3}


def compare(
    folder: Path, model: str, threads: Sequence[int], schedule: Schedule, cpu: str = "auto", seed: int = 0
) -> dict[str, Any]:
    """Measures every variant of a model that the folder has files of."""
    variants = [
        Variant(kind, delegated, n)
        for kind in formats(folder, model)
        for delegated in ((True, False) if kind.startswith("i4") else (False,))
        for n in threads
    ]
    loaded = [load(folder / f"{model}.{v.format}.tflite", v, cpu) for v in variants]
    times = interleave(loaded, schedule, seed)
    return {
        "model": model,
        "variants": [
            {
                "name": entry.variant.name,
                **vars(entry.variant),
                "bytes": (folder / f"{model}.{entry.variant.format}.tflite").stat().st_size,
                "median_ms": statistics.median(times[entry.variant.name]),
                "rounds_ms": times[entry.variant.name],
                "prepare_ms": entry.prepare_ms,
                "delegated": entry.report and f"{entry.report['delegated']}/{entry.report['total']}",
                "kernels": sorted({node["kernel"] for node in entry.report["taken"]}) if entry.report else [],
            }
            for entry in loaded
        ],
    }


def formats(folder: Path, model: str) -> list[str]:
    """Formats of a model that a folder holds."""
    return sorted(path.name.split(".")[1] for path in folder.glob(f"{model}.*.tflite"))


def show(result: Mapping[str, Any], say: Callable[[str], None] = print) -> None:
    times = {v["name"]: v["rounds_ms"] for v in result["variants"]}
    for v in result["variants"]:
        int8, stock = times.get(f"i8 x{v['threads']}"), times.get(f"{v['format']} x{v['threads']}")
        line = f"{result['model']:20} {v['name']:24} {v['median_ms']:9.3f} ms"
        if int8:
            r = ratio(times[v["name"]], int8)
            line += f"   to int8 {r['median']:6.3f} [{r['q1']:.3f}, {r['q3']:.3f}]"
        if v["delegate"] and stock:
            line += f"   to stock {ratio(times[v['name']], stock)['median']:6.3f}   nodes {v['delegated']}"
        say(line)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares whole models, interleaved.")
    parser.add_argument("--models", type=Path, default=Path("out/bench"), help="folder of bench.models")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=Schedule.rounds)
    parser.add_argument("--quick", action="store_true", help="two rounds of single runs: shows that it works")
    parser.add_argument("--cpu", default="auto", help="highest kernel tier of the delegate")
    parser.add_argument("--as", dest="cpu_class", choices=list(CLASSES), default="native", help="a lesser CPU")
    parser.add_argument("--hide_library", type=Path, default=_HIDE_LIBRARY, help="what --as needs")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("names", nargs="*", metavar="MODEL", help="all of the folder where none is named")
    args = parser.parse_args()
    hide(args.cpu_class, args.hide_library)
    schedule = QUICK if args.quick else Schedule(rounds=args.rounds)
    names = args.names or sorted({path.name.split(".")[0] for path in args.models.glob("*.f32.tflite")})
    results = []
    for name in names:
        results.append(compare(args.models, name, args.threads, schedule, args.cpu))
        show(results[-1])
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
