"""QuantEase (Behdad 2023, arXiv:2309.01885): cyclic coordinate descent over the integers of a layer.

One input at a time, all outputs take the integer that is best with every other weight as it stands. The layer's
error never rises, and the sweeps end when nothing changes.
"""

from __future__ import annotations

import numpy as np


def quantease(
    target: np.ndarray,
    scale: np.ndarray,
    a: np.ndarray,
    low: np.ndarray | int,
    high: np.ndarray | int,
    start: np.ndarray | None = None,
    sweeps: int = 20,
) -> np.ndarray:
    """Integers q with small (scale q - target) a (scale q - target)'.

    Args:
        target: real weights, float64 [groups, outputs, values].
        scale: float64, broadcast to the target.
        a: second moments of the input, float64 [groups, values, values], positive definite.
        low, high: the integers allowed, broadcast to the target.
        start: integers to start with, [groups, outputs, values]; those nearest to the target if not given.
        sweeps: at most so many passes over the values.

    Returns:
        int8 [groups, outputs, values].
    """
    scale, low, high = (np.broadcast_to(of, target.shape) for of in (scale, low, high))
    q = np.clip(np.rint(target / scale if start is None else start), low, high)
    groups = zip(q, target, scale, a, low, high, strict=True)
    return np.stack([_group(*part, sweeps=sweeps) for part in groups])


def _group(
    q: np.ndarray,
    target: np.ndarray,
    scale: np.ndarray,
    a: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    *,
    sweeps: int,
) -> np.ndarray:
    diagonal = np.diag(a)
    # Half the gradient of the error, kept up to date as integers change.
    pull = (q * scale - target) @ a
    order = np.argsort(-diagonal)
    for _ in range(sweeps):
        changed = False
        for k in order:
            better = np.clip(np.rint(q[:, k] - pull[:, k] / (diagonal[k] * scale[:, k])), low[:, k], high[:, k])
            step = (better - q[:, k]) * scale[:, k]
            moved = np.flatnonzero(step)
            if moved.size:
                q[:, k] = better
                pull[moved] += step[moved, None] * a[k]
                changed = True
        if not changed:
            break
    return q.astype(np.int8)
