"""What watches a tensor during calibration and proposes its range."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np


class Observer(Protocol):
    """The state of a range estimate. States are values: `update` returns a new one and leaves the old as it was."""

    def update(self, x: np.ndarray) -> Self:
        """The state after one more batch of values, an array of any shape and a real dtype.

        Raises:
            ValueError: for NaN or infinity, or an empty batch.
        """
        ...

    def range(self) -> tuple[float, float]:
        """The proposed range (low, high), low <= high.

        Raises:
            ValueError: if nothing was observed.
        """
        ...


def batch_range(x: np.ndarray) -> tuple[float, float]:
    """Smallest and largest value of a batch.

    Raises:
        ValueError: for NaN or infinity, or an empty batch.
    """
    x = np.asarray(x)
    if x.size == 0:
        raise ValueError(f"an empty batch of shape {x.shape} was observed")
    low, high = float(x.min()), float(x.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        nan, inf = int(np.isnan(x).sum()), int(np.isinf(x).sum())
        raise ValueError(f"{nan} NaN and {inf} infinite among {x.size} observed values")
    return low, high


def nothing_observed() -> ValueError:
    """The error of a range that is asked for before the first batch."""
    return ValueError("no data was observed, so there is no range")
