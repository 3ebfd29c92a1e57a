"""Statistics over the times of single runs."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(ordered: Sequence[float], q: float) -> float:
    """The q-th percentile, 0 to 100, of values in rising order, linear between neighbours (Hyndman and Fan's 7th)."""
    position = (len(ordered) - 1) * q / 100
    low = math.floor(position)
    high = math.ceil(position)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of the quotients of two variants' times, one of each a round.

    What slows a machine down slows down all that takes turns on it, and so cancels within a round.
    """
    quotients = sorted(a / b for a, b in zip(over, under, strict=True))
    return {"median": percentile(quotients, 50), "q1": percentile(quotients, 25), "q3": percentile(quotients, 75)}


def summarize(runs_ns: Sequence[int], first_ns: int, init_ns: int) -> dict[str, float]:
    """The ``latency_ms`` object of a result, in milliseconds.

    Args:
        runs_ns: measured runs, at least one, in nanoseconds.
        first_ns: the very first run after loading, which warms caches and builds what is built late.
        init_ns: from before the runtime's library was opened until the model could run.
    """
    times = sorted(ns / 1e6 for ns in runs_ns)
    mean = math.fsum(times) / len(times)
    return {
        "avg": mean,
        "min": times[0],
        "max": times[-1],
        "stddev": math.sqrt(math.fsum((t - mean) ** 2 for t in times) / len(times)),
        "median": percentile(times, 50),
        "p5": percentile(times, 5),
        "p95": percentile(times, 95),
        "first": first_ns / 1e6,
        "init": init_ns / 1e6,
    }
