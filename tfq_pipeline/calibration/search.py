"""The search that range estimates with a cost share: one magnitude for both ends first, then each end in turn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Ends of ranges, and what they cost: of several proposals, along the first axis, for each.
Ranges = tuple[np.ndarray, np.ndarray]
Cost = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Shares of the full range that are tried for an end.
_SHARES = np.linspace(1.0, 0.02, 99)
_ROUNDS = 2


def shrink(low: np.ndarray | float, high: np.ndarray | float, cost: Cost) -> Ranges:
    """The ranges inside [low, high] with the least cost among those tried.

    Clipping at one magnitude comes first: it takes outliers of one side away without touching the other, which a
    search that starts with the full range and moves one end at a time does not always find.

    Args:
        low, high: the full ranges, low <= 0 <= high, of any one shape and dtype, which the result has too.
        cost: of ranges (low, high).
    """
    low, high = np.asarray(low), np.asarray(high)
    limits = shares_of(np.maximum(-low, high))
    chosen = cheapest(np.maximum(-limits, low), np.minimum(limits, high), cost)
    for _ in range(_ROUNDS):
        if np.any(low):
            lows = shares_of(low)
            chosen = cheapest(lows, np.broadcast_to(chosen[1], lows.shape), cost)
        if np.any(high):
            highs = shares_of(high)
            chosen = cheapest(np.broadcast_to(chosen[0], highs.shape), highs, cost)
    return chosen


def shares_of(end: np.ndarray) -> np.ndarray:
    """What is tried for an end, the whole of it first: [proposals, *shape], of its dtype."""
    end = np.asarray(end)
    return _SHARES.astype(end.dtype).reshape(-1, *[1] * end.ndim) * end


def cheapest(lows: np.ndarray, highs: np.ndarray, cost: Cost) -> Ranges:
    """Of several proposals, along the first axis, the cheapest for each range, the first of equal ones."""
    best = np.argmin(cost(lows, highs), axis=0)[None]
    low, high = (np.take_along_axis(ends, best, axis=0)[0] for ends in (lows, highs))
    return low, high
