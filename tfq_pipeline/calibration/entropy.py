"""Entropy calibration: the range whose quantized distribution tells most of the observed one (Migacz 2017, TensorRT).

For each candidate, P is the distribution with everything outside moved to its ends, Q is P as 2^bits levels can show
it. The range with the least Kullback-Leibler divergence of Q from P is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tfq_pipeline.calibration.histogram import Histogram
from tfq_pipeline.calibration.search import shrink

# A bin's count is cut to so many times the median of the occupied bins that lie within so many of it.
_SPIKE, _NEIGHBOURS = 4.0, 16

# The least share of a bin in the quantized distribution: it keeps the logarithm finite.
_FLOOR = 1e-9

# More than divergences by running sums are off by.
_ROUGH = 1e-9


@dataclass(frozen=True)
class Entropy:
    """The range with the least divergence at `bits`.

    Attributes:
        bits: width of the integers that the range is for.
        histogram: what was observed.
    """

    bits: int = 8
    histogram: Histogram = field(default_factory=Histogram)

    def update(self, x: np.ndarray) -> Entropy:
        """See `Observer.update`."""
        return replace(self, histogram=self.histogram.update(x))

    def range(self) -> tuple[float, float]:
        """See `Observer.range`."""
        h = self.histogram
        h.require_data()
        low, high = min(h.low, 0.0), max(h.high, 0.0)
        counts = h.counts.astype(np.float64)
        # What is exactly 0 (after a ReLU) has a level of its own at any scale and says nothing of the range.
        if low == 0.0 and h.first == 0:
            counts[0] = 0.0
        counts = _without_spikes(counts)
        # So few values have no distribution that levels could show badly: each may have a level of its own.
        if np.count_nonzero(counts) <= 2**self.bits:
            return h.low, h.high

        def cost(lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
            rough = _divergences(h.centers, counts, lows, highs, 2**self.bits)
            # Several are often equal; the rounding of running sums has no say in which is taken.
            found = np.full(len(rough), np.inf)
            for i in np.flatnonzero(rough <= rough.min() + _ROUGH):
                found[i] = _divergence(h.centers, counts, float(lows[i]), float(highs[i]), 2**self.bits)
            return found

        found = shrink(low, high, cost)
        return float(found[0]), float(found[1])


def row_ranges(rows: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranges of weights: of each row of [channels, values], float32 [channels] each."""
    ranges = np.array([Entropy(bits).update(row).range() for row in rows], np.float32)
    return ranges[:, 0], ranges[:, 1]


def _without_spikes(counts: np.ndarray) -> np.ndarray:
    """Counts whose single large bins are no larger than what is around them bears.

    A value that returns again and again, such as what a layer makes of a constant background, lies in one bin. The
    least divergence is then where this bin has a level to itself, however much that clips, while its error is one value
    like any other.
    """
    occupied = counts > 0
    padded = np.pad(counts, _NEIGHBOURS)
    around = np.sort(np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEIGHBOURS + 1)[occupied], axis=1)
    # The occupied ones stand last, so their median lies half their number from the end.
    held = np.count_nonzero(around, axis=1)
    last = around.shape[1] - 1
    rows = np.arange(len(around))
    median = (around[rows, last - held // 2] + around[rows, last - (held - 1) // 2]) / 2
    cut = counts.copy()
    cut[occupied] = np.minimum(counts[occupied], _SPIKE * median)
    return cut


def _divergences(
    centers: np.ndarray, counts: np.ndarray, lows: np.ndarray, highs: np.ndarray, levels: int
) -> np.ndarray:
    """What `_divergence` gives for each of several ranges, but for rounding.

    Bins of one level share the mean of those that hold something: the level can tell no more. So the sum of
    p log(p / q) over bins is one of p log p, less one over levels, and both are differences of running sums.

    Args:
        centers: of the bins, ascending, float64 [bins].
        counts: float64 [bins].
        lows, highs: of the ranges, [ranges].
        levels: how many there are.
    """
    sums, held, entropies = (np.concatenate([[0.0], np.cumsum(v)]) for v in (counts, counts > 0, _times_log(counts)))
    first, end = np.searchsorted(centers, lows), np.searchsorted(centers, highs, side="right")
    bins = np.maximum(end - first, 1)
    end = np.maximum(end, first)
    edges = first[:, None] + -(-np.arange(levels + 1) * (end - first)[:, None] // levels)
    total, used = np.diff(sums[edges]), np.diff(held[edges])
    inside, below, above = sums[end] - sums[first], sums[first], sums[-1] - sums[end]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(total > 0, np.log(np.maximum(total / used / inside[:, None], _FLOOR)), 0.0)
    seen = entropies[end] - entropies[first] - (total * logs).sum(axis=1)
    # What was clipped lies in the outermost bins, which may be one, and have no counterpart where they held nothing.
    start, last = np.minimum(first, len(counts) - 1), np.maximum(end - 1, 0)
    of_last = np.take_along_axis(logs, (levels + -levels // bins)[:, None], axis=1)[:, 0]
    both = counts[last] + np.where(start == last, below, 0.0)
    for kept, clipped, log, empty in (
        (counts[start], below, logs[:, 0], counts[start] == 0),
        (both, above, of_last, counts[last] == 0),
    ):
        seen += _times_log(kept + clipped) - _times_log(kept) - clipped * np.where(empty, np.log(_FLOOR), log)
    return np.where(inside > 0, seen / sums[-1] - np.log(sums[-1]), np.inf)


def _times_log(counts: np.ndarray) -> np.ndarray:
    """x log x, 0 of 0."""
    return counts * np.log(np.where(counts > 0, counts, 1.0))


def _divergence(centers: np.ndarray, counts: np.ndarray, low: float, high: float, levels: int) -> float:
    """KL divergence of the quantized from the clipped distribution, in nats; infinite when nothing is left inside."""
    inside = (centers >= low) & (centers <= high)
    if not counts[inside].any():
        return np.inf
    first, last = np.flatnonzero(inside)[[0, -1]]
    kept = counts[first : last + 1]
    reference = kept.copy()
    reference[0] += counts[:first].sum()
    reference[-1] += counts[last + 1 :].sum()
    # Bins of one level share the mean of those that hold something: the level can tell no more.
    level = np.minimum((np.arange(len(kept)) * levels) // len(kept), levels - 1)
    held = kept > 0
    total = np.bincount(level, kept, levels)
    used = np.bincount(level[held], minlength=levels)
    shown = np.where(held, (total / np.maximum(used, 1))[level], 0.0)
    p, q = reference / reference.sum(), shown / shown.sum()
    seen = p > 0
    # An end that holds only what was clipped has no counterpart.
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], _FLOOR))))
