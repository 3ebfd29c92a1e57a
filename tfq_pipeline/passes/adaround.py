"""AdaRound (Nagel 2020, arXiv:2004.10568): learns for each weight whether to round it down or up.

The layer's squared error is a quadratic in the weights (see `moments`), so its gradient needs no samples. The soft
rounding h(v) is the rectified sigmoid of the paper, its regularizer is annealed from flat to steep, and Adam moves v.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_ZETA, _GAMMA = 1.1, -0.1
_WARM = 0.2  # share of the steps without the regularizer
_BETA = (20.0, 2.0)
_REGULARIZER = 0.05
_RATE = 0.02


def adaround(
    target: np.ndarray,
    scale: np.ndarray,
    a: np.ndarray,
    qmin: int,
    qmax: int,
    steps: int = 2000,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> np.ndarray:
    """Integers next to target / scale with small (scale q - target) a (scale q - target)'.

    Args:
        target: real weights, float64 [groups, outputs, values].
        scale: float64, broadcast to the target.
        a: second moments of the input, float64 [groups, values, values].
        qmin, qmax: the integers allowed.
        steps: of Adam; it stops early once every weight has decided.
        progress: told the steps done and the total.

    Returns:
        int8 [groups, outputs, values].
    """
    scale = np.broadcast_to(scale, target.shape)
    real = target / scale
    floor = np.floor(real)
    start = np.clip((real - floor - _GAMMA) / (_ZETA - _GAMMA), 1e-3, 1 - 1e-3)
    v = np.log(start / (1.0 - start))
    # One size of the loss for every output: rounding to nearest costs about scale^2 / 12 times the trace.
    worth = 12.0 * scale / np.maximum((scale**2 * np.einsum("gkk->gk", a)[:, None]).sum(axis=-1, keepdims=True), 1e-30)
    first, second = np.zeros_like(v), np.zeros_like(v)
    for step in range(1, steps + 1):
        sigmoid = 1.0 / (1.0 + np.exp(-v))
        soft = np.clip(sigmoid * (_ZETA - _GAMMA) + _GAMMA, 0.0, 1.0)
        slope = np.where((soft > 0.0) & (soft < 1.0), sigmoid * (1.0 - sigmoid) * (_ZETA - _GAMMA), 0.0)
        q = np.clip(floor + soft, qmin, qmax)
        gradient = 2.0 * ((q * scale - target) @ a) * worth * slope
        done = step / steps
        if done > _WARM:
            beta = _BETA[1] + (_BETA[0] - _BETA[1]) * (1.0 - (done - _WARM) / (1.0 - _WARM))
            away = 2.0 * soft - 1.0
            gradient -= _REGULARIZER * 2.0 * beta * np.abs(away) ** (beta - 1.0) * np.sign(away) * slope
            if not slope.any():
                break
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        v -= _RATE * (first / (1.0 - 0.9**step)) / (np.sqrt(second / (1.0 - 0.999**step)) + 1e-8)
        if step % 100 == 0:
            progress(step, steps)
    return np.clip(floor + (v > 0.0), qmin, qmax).astype(np.int8)
