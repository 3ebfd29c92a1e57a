"""Moving-average calibration: smoothed batch ranges (Jacob et al. 2018, arXiv:1712.05877, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tfq_pipeline.calibration.observer import batch_range, nothing_observed


@dataclass(frozen=True)
class MovingAverage:
    """Exponential average of each batch's smallest and largest value.

    The first batch sets the range. An average that starts at a constant (-6 and 6 in TFMOT's MovingAverageQuantizer)
    still holds a third of it after a hundred batches at a decay of 0.99.

    Attributes:
        decay: weight of the past, in [0, 1).
        low, high: the averages so far, None before the first batch.

    Raises:
        ValueError: for a decay outside [0, 1).
    """

    decay: float = 0.99
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"decay must be at least 0 and below 1, found {self.decay}")

    def update(self, x: np.ndarray) -> MovingAverage:
        """See `Observer.update`."""
        low, high = batch_range(x)
        if self.low is None or self.high is None:
            return replace(self, low=low, high=high)
        keep, take = self.decay, 1.0 - self.decay
        return replace(self, low=keep * self.low + take * low, high=keep * self.high + take * high)

    def range(self) -> tuple[float, float]:
        """See `Observer.range`."""
        if self.low is None or self.high is None:
            raise nothing_observed()
        return self.low, self.high
