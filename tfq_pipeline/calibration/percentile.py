"""Percentile calibration: leaves a share of the largest values outside of the range (Wu 2020, arXiv:2004.09602)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tfq_pipeline.calibration.histogram import Histogram


@dataclass(frozen=True)
class Percentile:
    """The range from the (100 - p)-th to the p-th percentile of everything observed.

    Attributes:
        percentile: p, above 50 and at most 100.
        histogram: what was observed.

    Raises:
        ValueError: for a percentile outside (50, 100].
    """

    percentile: float = 99.99
    histogram: Histogram = field(default_factory=Histogram)

    def __post_init__(self) -> None:
        check(self.percentile)

    def update(self, x: np.ndarray) -> Percentile:
        """See `Observer.update`."""
        return replace(self, histogram=self.histogram.update(x))

    def range(self) -> tuple[float, float]:
        """See `Observer.range`; within one bin of the exact percentile."""
        h = self.histogram
        h.require_data()
        below = np.concatenate([[0], np.cumsum(h.counts)])
        edges = np.arange(h.first, h.first + len(below)) * h.width
        outside = below[-1] * (100.0 - self.percentile) / 100.0
        low, high = np.interp([outside, below[-1] - outside], below, edges)
        return float(np.clip(low, h.low, h.high)), float(np.clip(high, h.low, h.high))


def row_ranges(rows: np.ndarray, percentile: float) -> tuple[np.ndarray, np.ndarray]:
    """Ranges of weights: exact percentiles of each row of [channels, values], float32 [channels] each."""
    check(percentile)
    low, high = np.percentile(rows, [100.0 - percentile, percentile], axis=1)
    return low.astype(np.float32), high.astype(np.float32)


def check(percentile: float) -> None:
    if not 50.0 < percentile <= 100.0:
        raise ValueError(f"percentile must be above 50 and at most 100, found {percentile}")
