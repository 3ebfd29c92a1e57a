"""Min-max calibration: the range of everything observed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfq_pipeline.calibration.observer import batch_range, nothing_observed


@dataclass(frozen=True)
class MinMax:
    """The smallest and the largest value seen so far; infinities turned inside out before the first batch."""

    low: float = np.inf
    high: float = -np.inf

    def update(self, x: np.ndarray) -> MinMax:
        """See `Observer.update`."""
        low, high = batch_range(x)
        return MinMax(min(self.low, low), max(self.high, high))

    def range(self) -> tuple[float, float]:
        """See `Observer.range`."""
        if self.low > self.high:
            raise nothing_observed()
        return self.low, self.high
