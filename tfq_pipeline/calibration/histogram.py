"""A histogram of a stream: what percentile, entropy and MSE calibration read their ranges from.

Bins are as wide as a power of two and 0 is an edge between two of them. When values come that need more than
`MAX_BINS` bins, neighbours are merged in pairs, which is exact: the histogram depends on the values alone, not on how
they were cut into batches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tfq_pipeline.calibration.observer import batch_range, nothing_observed

MAX_BINS = 8192


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of the values observed so far.

    Attributes:
        exponent: bins are 2^exponent wide.
        first: number of the lowest bin; bin k holds the values in [k * width, (k + 1) * width).
        counts: int64 [bins].
        low, high: smallest and largest value.
    """

    exponent: int = 0
    first: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    low: float = np.inf
    high: float = -np.inf

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Histogram)
            and (self.exponent, self.first, self.low, self.high) == (other.exponent, other.first, other.low, other.high)
            and np.array_equal(self.counts, other.counts)
        )

    def __hash__(self) -> int:
        return hash((self.exponent, self.first, self.low, self.high, self.counts.tobytes()))

    @property
    def width(self) -> float:
        return float(2.0**self.exponent)

    @cached_property
    def centers(self) -> np.ndarray:
        """Middles of the bins, float64 [bins]."""
        return (np.arange(self.first, self.first + len(self.counts)) + 0.5) * self.width

    def update(self, x: np.ndarray) -> Histogram:
        """The histogram after one more batch, of any shape and a real dtype.

        Raises:
            ValueError: for NaN or infinity, or an empty batch.
        """
        low, high = batch_range(x)
        low, high = min(low, self.low), max(high, self.high)
        exponent = max(_exponent(low, high), self.exponent) if len(self.counts) else _exponent(low, high)
        first, last = _bin(low, exponent), _bin(high, exponent)
        counts = np.zeros(last - first + 1, np.int64)
        if len(self.counts):
            kept = np.arange(self.first, self.first + len(self.counts)) >> (exponent - self.exponent)
            np.add.at(counts, kept - first, self.counts)
        bins = np.floor(np.ldexp(np.asarray(x, np.float64).ravel(), -exponent)).astype(np.int64)
        counts += np.bincount(bins - first, minlength=len(counts))
        return Histogram(exponent, first, counts, low, high)

    def require_data(self) -> None:
        """Raises ValueError when nothing was observed."""
        if not len(self.counts):
            raise nothing_observed()


def _exponent(low: float, high: float) -> int:
    """The smallest power of two at which the bins from `low` to `high` are at most MAX_BINS."""
    largest = max(abs(low), abs(high))
    if largest == 0.0:
        return -126
    exponent = int(np.floor(np.log2(largest))) - MAX_BINS.bit_length()
    while _bin(high, exponent) - _bin(low, exponent) >= MAX_BINS:
        exponent += 1
    return exponent


def _bin(value: float, exponent: int) -> int:
    return int(np.floor(np.ldexp(value, -exponent)))
