"""TFLite's integer arithmetic, vectorised and bit for bit: how a 32-bit sum becomes an 8-bit output.

A real multiplier m becomes a Q31 integer and a power of two, m = multiplier * 2^-31 * 2^shift, shift positive to the
left. The names are those of TFLite and gemmlowp. Arithmetic is done in int64 and then wrapped to int32: a sum that is
shifted left out of 32 bits is undefined in C and wraps here.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Activation = Literal["none", "relu", "relu6", "relu_n1_to_1"]

# Real bounds of the fused activations; None leaves that side to the integer type.
ACTIVATION_BOUNDS: dict[Activation, tuple[float | None, float | None]] = {
    "none": (None, None),
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
}

MIN_SHIFT, MAX_SHIFT = -31, 30
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


def quantize_multiplier(real: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Q31 multiplier and shift, both int32 and of the shape of `real`, as TFLite's QuantizeMultiplier gives them.

    A multiplier too small for a shift of -31 becomes 0 with shift 0.

    Raises:
        ValueError: for a value that is negative or not finite, or too large for a shift of 30.
    """
    real = np.asarray(real, np.float64)
    if not np.isfinite(real).all() or (real < 0).any():
        raise ValueError("a multiplier must be finite and not negative")
    fraction, shift = np.frexp(real)
    q31 = np.floor(fraction * (1 << 31) + 0.5).astype(np.int64)
    carried = q31 == 1 << 31
    q31, shift = np.where(carried, q31 >> 1, q31), shift + carried
    vanished = shift < MIN_SHIFT
    q31, shift = np.where(vanished, 0, q31), np.where(vanished, 0, shift)
    if (shift > MAX_SHIFT).any():
        raise ValueError(f"a multiplier of {real.max()} needs a shift above {MAX_SHIFT}")
    return q31.astype(np.int32), shift.astype(np.int32)


def saturating_rounding_doubling_high_mul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """int32 (2 * a * b) >> 32, rounded to nearest with halves upward; INT32_MIN times itself saturates."""
    a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    # C divides toward zero.
    high = np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))
    return np.where((a == INT32_MIN) & (b == INT32_MIN), INT32_MAX, high).astype(np.int32)


def rounding_divide_by_pot(x: np.ndarray, exponent: np.ndarray | int) -> np.ndarray:
    """int32 x / 2^exponent, rounded to nearest with halves away from zero; exponent 0 to 31."""
    x, exponent = np.asarray(x, np.int64), np.asarray(exponent, np.int64)
    mask = (np.int64(1) << exponent) - 1
    above = (x & mask) > (mask >> 1) + (x < 0)
    return np.asarray((x >> exponent) + above).astype(np.int32)


def multiply_by_quantized_multiplier(x: np.ndarray, multiplier: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """int32 x * multiplier * 2^(shift - 31), rounded twice, the second time with halves away from zero: gemmlowp's way.

    Args:
        x, multiplier, shift: int32, broadcast against each other; multiplier not negative, shift -31 to 30.
    """
    return rounding_divide_by_pot(_scaled_before_right_shift(x, multiplier, shift), _right_shift(shift))


def multiply_by_quantized_multiplier_upward(
    x: np.ndarray, multiplier: np.ndarray, shift: np.ndarray | int
) -> np.ndarray:
    """int32 x * multiplier * 2^(shift - 31), rounded twice, both times with halves upward: ruy's SIMD kernels' way."""
    right = _right_shift(shift)
    half = (np.int64(1) << right) >> 1
    return np.asarray((_scaled_before_right_shift(x, multiplier, shift) + half) >> right).astype(np.int32)


def excess_of_double_rounding(real: np.ndarray | float) -> np.ndarray:
    """By how much `multiply_by_quantized_multiplier_upward` gives too much in the mean, float64 in units of x.

    The second rounding moves its ties up, and half of the products that the first one made a tie lay below it: that is
    2^-(right + 1) of a result, whatever the multiplier. Without a shift to the right there is no second rounding.

    Args:
        real: the multiplier, positive.
    """
    fraction, shift = np.frexp(np.asarray(real, np.float64))
    return np.where(shift < 0, 0.5 / fraction, 0.0)


def steady_bias(
    bias: np.ndarray, real: np.ndarray, gap: int, lowest: int, highest: int
) -> tuple[np.ndarray, np.ndarray]:
    """The integer near each bias with which sums give what they give with the bias itself, however often a kernel
    rounds.

    Sums of an activation of few bits lie `gap` apart, and between few results there are few limits: a bias can be moved
    until no sum lies where one rounding and two differ. Where no integer does that at all limits, the one that does at
    the most is taken, those near the bias before others.

    Args:
        bias: float64 [channels], in units of the sum.
        real: the multipliers, positive, float64 [channels].
        gap: sums without a bias are multiples of it.
        lowest, highest: of the results, the zero point taken off.

    Returns:
        The biases, int64 [channels], and by how many units of the sum each may be off before a result changes, float64
        [channels]; below 0 where one did.
    """
    early = excess_of_double_rounding(real)[:, None, None]
    limits = (np.arange(lowest, highest) + 0.5) / real[:, None]
    # The least bias with which the sum that is the first to pass a limit still passes it.
    least = (limits - gap * np.ceil((limits - bias[:, None]) / gap))[:, None]
    tried = np.rint(bias)[:, None] + np.arange(-gap // 2, gap // 2 + 1)
    room = np.minimum(tried[..., None] - least, least + gap - early - tried[..., None])
    margins = room.min(axis=2)
    # Limits near the bias count more: sums lie around it. Of equals the one with the largest margin.
    weights = 1.0 / (1.0 + np.abs(limits - bias[:, None]) * real[:, None])
    best = np.argmax(((room > 0) * weights[:, None]).sum(axis=2) + 1e-3 * margins / gap, axis=1)[:, None]
    exact = (bias[:, None] - least[:, 0]).min(axis=1), (least[:, 0] + gap - bias[:, None]).min(axis=1)
    margin = np.minimum(np.take_along_axis(margins, best, axis=1)[:, 0], np.minimum(*exact))
    return np.take_along_axis(tried, best, axis=1)[:, 0].astype(np.int64), margin


def multiply_by_quantized_multiplier_single_rounding(
    x: np.ndarray, multiplier: np.ndarray, shift: np.ndarray | int
) -> np.ndarray:
    """int32 x * multiplier * 2^(shift - 31), rounded once with halves upward."""
    total = 31 - np.asarray(shift, np.int64)
    product = np.asarray(x, np.int64) * np.asarray(multiplier, np.int64)
    return np.asarray((product + (np.int64(1) << (total - 1))) >> total).astype(np.int32)


def _scaled_before_right_shift(x: np.ndarray, multiplier: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    left = np.maximum(np.asarray(shift, np.int64), 0)
    return saturating_rounding_doubling_high_mul((np.asarray(x, np.int64) << left).astype(np.int32), multiplier)


def _right_shift(shift: np.ndarray | int) -> np.ndarray:
    right: np.ndarray = np.maximum(-np.asarray(shift, np.int64), 0)
    return right


def activation_range(activation: Activation, scale: float, zero_point: int, bits: int = 8) -> tuple[int, int]:
    """Lowest and highest integer of an output with a fused activation, as CalculateActivationRangeQuantized gives them.

    Args:
        activation: a key of `ACTIVATION_BOUNDS`.
        scale, zero_point: of the output; the scale counts as float32.
        bits: of the output, 8 or 16.
    """
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    lower, upper = ACTIVATION_BOUNDS[activation]

    def integer(bound: float) -> int:
        steps = float(np.float32(bound) / np.float32(scale))
        return zero_point + int(steps + (0.5 if steps >= 0 else -0.5))

    return (
        low if lower is None else max(low, integer(lower)),
        high if upper is None else min(high, integer(upper)),
    )
