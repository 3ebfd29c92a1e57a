"""MSE calibration: the range with the smallest squared error of what is quantized in it.

A narrower range rounds finely and clips more. The best of them is found by trying, as in OMSE
(Choukroun 2019, arXiv:1902.06822) and in Banner 2019 (arXiv:1810.05723), on the values themselves instead of an
assumed distribution.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tfq_pipeline.calibration.histogram import Histogram
from tfq_pipeline.calibration.search import SHARES, shrink


@dataclass(frozen=True)
class Mse:
    """The range with the least mean squared error at `bits`.

    Attributes:
        bits: width of the integers that the range is for.
        symmetric: zero point 0, so that one end is the other's negative.
        histogram: what was observed.
    """

    bits: int = 8
    symmetric: bool = False
    histogram: Histogram = field(default_factory=Histogram)

    def update(self, x: np.ndarray) -> Mse:
        """See `Observer.update`."""
        return replace(self, histogram=self.histogram.update(x))

    def range(self) -> tuple[float, float]:
        """See `Observer.range`."""
        h = self.histogram
        h.require_data()
        used = h.counts > 0
        # A bin stands for its middle; the outermost ones end at the extremes, and clipping needs them exactly.
        values = np.clip(h.centers[used], h.low, h.high)
        weights = h.counts[used] / h.counts.sum()
        return best_range(values, weights, h.low, h.high, self.bits, self.symmetric)


def best_range(
    values: np.ndarray, weights: np.ndarray, low: float, high: float, bits: int, symmetric: bool
) -> tuple[float, float]:
    """The range inside [low, high] with the least weighted squared error.

    Args:
        values: float64 [n].
        weights: float64 [n], their shares.
        low, high: the full range, widened to hold 0 here.
        bits: of the integers.
        symmetric: zero point 0.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        limit = max(-low, high)
        best = limit * min(SHARES, key=lambda s: _error(values, weights, -limit * s, limit * s, bits, True))
        return max(-float(best), low), min(float(best), high)
    return shrink(low, high, lambda a, b: _error(values, weights, a, b, bits))


def _error(
    values: np.ndarray, weights: np.ndarray, low: float, high: float, bits: int, symmetric: bool = False
) -> float:
    span = high if symmetric else high - low
    step = span / (2 ** (bits - 1) - 1 if symmetric else 2**bits - 1)
    if step <= 0.0:
        return float(np.dot(weights, values**2))
    # The zero point is an integer, so the grid holds 0 and the ends move with it.
    bottom = round(low / step)
    top = bottom + (2**bits - 2 if symmetric else 2**bits - 1)
    quantized = np.clip(np.rint(values / step), bottom, top) * step
    return float(np.dot(weights, (quantized - values) ** 2))


def row_ranges(rows: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranges of symmetric weights: of each row of [channels, values], float32 [channels] each."""
    rows = np.asarray(rows, np.float32)
    limit = np.abs(rows).max(axis=1, keepdims=True)
    # Squares of what is at most 1 cannot overflow.
    unit = rows / np.where(limit > 0, limit, 1.0)
    qmax = 2 ** (bits - 1) - 1
    best = limit.copy()
    least = np.full(limit.shape, np.inf, np.float32)
    for share in SHARES.astype(np.float32):
        step = share / qmax
        steps = unit / step
        error = (step * (np.clip(np.rint(steps), -qmax, qmax) - steps)) ** 2
        total = error.sum(axis=1, keepdims=True)
        better = total < least
        best = np.where(better, limit * share, best)
        least = np.where(better, total, least)
    return -best[:, 0], best[:, 0]
