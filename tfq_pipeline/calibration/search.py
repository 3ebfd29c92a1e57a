"""The search that range estimates with a cost share: one magnitude for both ends first, then each end in turn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Shares of the full range that are tried for an end.
SHARES = np.linspace(1.0, 0.02, 99)
_ROUNDS = 2


def shrink(low: float, high: float, cost: Callable[[float, float], float]) -> tuple[float, float]:
    """The range inside [low, high] with the least cost among those tried.

    Clipping at one magnitude comes first: it takes outliers of one side away without touching the other, which a
    search that starts with the full range and moves one end at a time does not always find.

    Args:
        low, high: the full range, low <= 0 <= high.
        cost: of a range (low, high).
    """
    limit = max(-low, high)
    ranges = [(max(-limit * s, low), min(limit * s, high)) for s in SHARES]
    chosen = min(ranges, key=lambda r: cost(*r))
    for _ in range(_ROUNDS):
        chosen = min(((low * s, chosen[1]) for s in SHARES), key=lambda r: cost(*r)) if low else chosen
        chosen = min(((chosen[0], high * s) for s in SHARES), key=lambda r: cost(*r)) if high else chosen
    return chosen
