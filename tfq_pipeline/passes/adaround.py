"""AdaRound (Nagel 2020, arXiv:2004.10568): learns for each weight whether to round it down or up.

The layer's squared error is a quadratic in the weights (see `moments`), so its gradient needs no samples. The soft
rounding h(v) is the rectified sigmoid of the paper, its regularizer is annealed from flat to steep, and Adam moves v.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# The rectified sigmoid is stretched to these limits, so that it reaches 0 and 1.
ZETA, GAMMA = 1.1, -0.1
WARM = 0.2  # share of the steps without the regularizer
_BETA = (20.0, 2.0)
_REGULARIZER = 0.05
_RATE = 0.02


def variable(rest: np.ndarray) -> np.ndarray:
    """The v whose soft rounding h(v) is what is left of a weight above the integer below it, 0 to 1."""
    share = np.clip((rest - GAMMA) / (ZETA - GAMMA), 1e-3, 1.0 - 1e-3)
    v: np.ndarray = np.log(share / (1.0 - share))
    return v


def steepness(done: float) -> float:
    """The regularizer's exponent at a share of the steps above `WARM`."""
    return _BETA[1] + (_BETA[0] - _BETA[1]) * (1.0 - (done - WARM) / (1.0 - WARM))


def adaround(
    target: np.ndarray,
    scale: np.ndarray,
    a: np.ndarray,
    low: np.ndarray | int,
    high: np.ndarray | int,
    steps: int = 2000,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> np.ndarray:
    """Integers next to target / scale with small (scale q - target) a (scale q - target)'.

    Args:
        target: real weights, float64 [groups, outputs, values].
        scale: float64, broadcast to the target.
        a: second moments of the input, float64 [groups, values, values].
        low, high: the integers allowed, broadcast to the target.
        steps: of Adam; it stops early once every weight has decided.
        progress: told the steps done and the total.

    Returns:
        int8 [groups, outputs, values].
    """
    scale = np.broadcast_to(scale, target.shape)
    real = target / scale
    floor = np.floor(real)
    v = variable(real - floor)
    # One size of the loss for every output: rounding to nearest costs about scale^2 / 12 times the trace.
    worth = 12.0 * scale / np.maximum((scale**2 * np.einsum("gkk->gk", a)[:, None]).sum(axis=-1, keepdims=True), 1e-30)
    first, second = np.zeros_like(v), np.zeros_like(v)
    for step in range(1, steps + 1):
        sigmoid = 1.0 / (1.0 + np.exp(-v))
        soft = np.clip(sigmoid * (ZETA - GAMMA) + GAMMA, 0.0, 1.0)
        slope = np.where((soft > 0.0) & (soft < 1.0), sigmoid * (1.0 - sigmoid) * (ZETA - GAMMA), 0.0)
        q = np.clip(floor + soft, low, high)
        gradient = 2.0 * ((q * scale - target) @ a) * worth * slope
        done = step / steps
        if done > WARM:
            beta = steepness(done)
            away = 2.0 * soft - 1.0
            gradient -= _REGULARIZER * 2.0 * beta * np.abs(away) ** (beta - 1.0) * np.sign(away) * slope
            if not slope.any():
                break
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        v -= _RATE * (first / (1.0 - 0.9**step)) / (np.sqrt(second / (1.0 - 0.999**step)) + 1e-8)
        if step % 100 == 0:
            progress(step, steps)
    return np.clip(floor + (v > 0.0), low, high).astype(np.int8)
