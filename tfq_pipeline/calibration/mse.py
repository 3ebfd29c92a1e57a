"""MSE calibration: the range with the smallest squared error of what is quantized in it.

A narrower range rounds finely and clips more. The best of them is found by trying, as in OMSE
(Choukroun 2019, arXiv:1902.06822) and in Banner 2019 (arXiv:1810.05723), on the values themselves instead of an
assumed distribution.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tfq_pipeline.calibration.histogram import Histogram
from tfq_pipeline.calibration.search import Ranges, cheapest, shares_of, shrink


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
        low, high = best_range(values, weights, h.low, h.high, self.bits, self.symmetric)
        return float(low), float(high)


def best_range(
    values: np.ndarray,
    weights: np.ndarray,
    low: np.ndarray | float,
    high: np.ndarray | float,
    bits: int,
    symmetric: bool,
) -> Ranges:
    """The ranges inside [low, high] with the least weighted squared error of each row.

    Args:
        values: real [..., n].
        weights: [n], their shares.
        low, high: the full ranges, of the values' dtype, [...]; widened to hold 0 here.
        bits: of the integers.
        symmetric: zero point 0.
    """
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)

    def cost(lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
        # One after the other: all values of all rows in all proposals are too many at once.
        return np.stack([_errors(values, weights, a, b, bits, symmetric) for a, b in zip(lows, highs, strict=True)])

    if not symmetric:
        return shrink(low, high, cost)
    limits = shares_of(np.maximum(-low, high))
    _, best = cheapest(-limits, limits, cost)
    return np.maximum(-best, low), np.minimum(best, high)


def _errors(
    values: np.ndarray, weights: np.ndarray, low: np.ndarray, high: np.ndarray, bits: int, symmetric: bool
) -> np.ndarray:
    """Weighted squared error of each row in its range."""
    span = high if symmetric else high - low
    step = np.asarray(span / (2 ** (bits - 1) - 1 if symmetric else 2**bits - 1))[..., None]
    # A range without a step holds 0 alone: at any step its integers are 0.
    step = np.where(step > 0.0, step, 1.0).astype(values.dtype)
    held = np.asarray(span > 0.0)[..., None]
    # The zero point is an integer, so the grid holds 0 and the ends move with it.
    bottom = np.rint(np.asarray(low)[..., None] / step)
    top = bottom + (2**bits - 2 if symmetric else 2**bits - 1)
    quantized = np.clip(np.rint(values / step), bottom, top) * step
    return (np.where(held, quantized, 0.0) - values) ** 2 @ weights


def row_ranges(rows: np.ndarray, bits: int, symmetric: bool) -> tuple[np.ndarray, np.ndarray]:
    """Ranges of weights: of each row of [channels, values], float32 [channels] each."""
    rows = np.asarray(rows, np.float32)
    limit = np.abs(rows).max(axis=1)
    # Squares of what is at most 1 cannot overflow.
    unit = rows / np.where(limit > 0, limit, 1.0)[:, None]
    shares = np.full(rows.shape[1], 1.0 / rows.shape[1], np.float32)
    ends = (-np.ones_like(limit), np.ones_like(limit)) if symmetric else (unit.min(axis=1), unit.max(axis=1))
    low, high = best_range(unit, shares, *ends, bits, symmetric)
    return low.astype(np.float32) * limit, high.astype(np.float32) * limit
