"""The search that range estimates with a cost share: one magnitude for both ends first, then each end in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

# Ends of ranges, and what they cost.
Ranges = tuple[np.ndarray, np.ndarray]
Cost = Callable[[np.ndarray, np.ndarray], np.ndarray | float]

# Shares of the full range that are tried for an end.
SHARES = tuple(float(share) for share in np.linspace(1.0, 0.02, 99))
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
    limit = np.maximum(-low, high)
    chosen = cheapest(((np.maximum(-limit * s, low), np.minimum(limit * s, high)) for s in SHARES), cost)
    for _ in range(_ROUNDS):
        if np.any(low):
            chosen = cheapest(((low * s, chosen[1]) for s in SHARES), cost)
        if np.any(high):
            chosen = cheapest(((chosen[0], high * s) for s in SHARES), cost)
    return chosen


def cheapest(ranges: Iterable[Ranges], cost: Cost) -> Ranges:
    """Of several proposals for the same ranges the cheapest for each, the first of equal ones."""
    (low, high), *others = ranges
    least = cost(low, high)
    for a, b in others:
        found = cost(a, b)
        better = found < least
        low, high, least = (np.where(better, new, old) for new, old in ((a, low), (b, high), (found, least)))
    return low, high
