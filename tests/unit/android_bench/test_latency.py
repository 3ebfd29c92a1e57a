"""Statistics of run times against numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from android_bench.latency import percentile, ratio, summarize


@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=200), st.integers(1, 10**9), st.integers(1, 10**9))
def test_summary_is_numpys(runs: list[int], first: int, init: int) -> None:
    summary = summarize(runs, first, init)
    ms = np.array(runs, np.float64) / 1e6
    expected = {
        "avg": ms.mean(),
        "min": ms.min(),
        "max": ms.max(),
        "stddev": ms.std(),
        "median": np.median(ms),
        "p5": np.percentile(ms, 5),
        "p95": np.percentile(ms, 95),
        "first": first / 1e6,
        "init": init / 1e6,
    }
    assert summary.keys() == expected.keys()
    for key, value in expected.items():
        assert summary[key] == pytest.approx(value, rel=1e-9, abs=1e-6), key


def test_percentile_of_one_value() -> None:
    assert percentile([3.0], 95) == 3.0


def test_ratio_is_taken_within_rounds() -> None:
    # Rounds on a machine that slows down: each one's quotient is 2, whatever the medians of all rounds are.
    assert ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0]) == {"median": 2.0, "q1": 2.0, "q3": 2.0}
    assert ratio([5.0, 1.0, 3.0, 2.0, 4.0], [1.0] * 5) == {"median": 3.0, "q1": 2.0, "q3": 4.0}
    assert ratio([3.0], [2.0]) == {"median": 1.5, "q1": 1.5, "q3": 1.5}
