"""TFLite's integer arithmetic against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tfq_pipeline.numerics import fixed_point
from tfq_pipeline.numerics.fixed_point import INT32_MAX, INT32_MIN

often = settings(deadline=None, max_examples=300)
EDGES = st.sampled_from([0, 1, -1, INT32_MAX, INT32_MIN, INT32_MIN + 1, 1 << 30, -(1 << 30)])
INT32 = st.integers(INT32_MIN, INT32_MAX) | EDGES
MULTIPLIER = st.integers(0, INT32_MAX) | st.sampled_from([0, 1, 1 << 30, INT32_MAX])


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def half_away(value: Fraction) -> int:
    return half_up(value) if value >= 0 else -half_up(-value)


@often
@given(INT32, INT32)
def test_doubling_high_mul(a, b):
    found = fixed_point.saturating_rounding_doubling_high_mul(np.int32(a), np.int32(b))
    assert found == min(half_up(Fraction(a * b, 1 << 31)), INT32_MAX)
    assert found.dtype == np.int32


@often
@given(INT32, st.integers(0, 31))
def test_divide_by_pot(x, exponent):
    assert fixed_point.rounding_divide_by_pot(np.int32(x), exponent) == half_away(Fraction(x, 1 << exponent))


@often
@given(INT32, MULTIPLIER, st.integers(-31, 30))
def test_three_multiplications(x, multiplier, shift):
    left, right = max(shift, 0), max(-shift, 0)
    assume(INT32_MIN <= x << left <= INT32_MAX)
    high = half_up(Fraction((x << left) * multiplier, 1 << 31))
    arguments = np.int32(x), np.int32(multiplier), shift
    assert fixed_point.multiply_by_quantized_multiplier(*arguments) == half_away(Fraction(high, 1 << right))
    assert fixed_point.multiply_by_quantized_multiplier_upward(*arguments) == half_up(Fraction(high, 1 << right))
    exact = Fraction(x * multiplier) * Fraction(2) ** (shift - 31)
    assert fixed_point.multiply_by_quantized_multiplier_single_rounding(*arguments) == half_up(exact)


@pytest.mark.parametrize("real", [math.pi / 5, math.pi / 10, math.pi / 44, math.pi / 100, math.pi / 800])
def test_the_excess_of_two_roundings_is_what_sums_show_in_the_mean(real):
    sums = np.arange(-40_000, 40_000, dtype=np.int32)
    multiplier, shift = fixed_point.quantize_multiplier(real)
    found = fixed_point.multiply_by_quantized_multiplier_upward(sums, multiplier, shift)
    mean = (found - sums * np.float64(multiplier) * 2.0 ** (float(shift) - 31)).mean()
    assert fixed_point.excess_of_double_rounding(real) * real == pytest.approx(mean, abs=1.5e-3)


@pytest.mark.parametrize(("lowest", "highest"), [(0, 15), (-7, 8), (0, 3)])
def test_with_a_steady_bias_every_rounding_gives_what_exact_arithmetic_gives(lowest, highest):
    rng = np.random.default_rng(0)
    real, bias, gap = 2.0 ** rng.uniform(-9, -6, 200), rng.normal(0, 300, 200), 16
    found, margin = fixed_point.steady_bias(bias, real, gap, lowest, highest)
    assert np.abs(found - bias).max() <= gap / 2 + 1
    steady = np.flatnonzero(margin > 0.05)
    assert steady.size >= 20
    # Halves of negative results are rounded in two ways, which a bias cannot please at once.
    roundings = [
        fixed_point.multiply_by_quantized_multiplier_upward,
        fixed_point.multiply_by_quantized_multiplier_single_rounding,
        *([fixed_point.multiply_by_quantized_multiplier] if lowest == 0 else []),
    ]
    sums = gap * np.arange(-1000, 1000)
    for channel in steady:
        exact = [half_up(Fraction(real[channel]) * (int(a) + Fraction(bias[channel]))) for a in sums]
        multiplier, shift = fixed_point.quantize_multiplier(real[channel])
        for rounded in roundings:
            given = rounded((sums + found[channel]).astype(np.int32), multiplier, int(shift))
            np.testing.assert_array_equal(np.clip(given, lowest, highest), np.clip(exact, lowest, highest))


def test_arguments_broadcast_per_channel():
    x = np.arange(-12, 12, dtype=np.int32).reshape(2, 3, 4) * 1001
    multiplier, shift = fixed_point.quantize_multiplier(np.array([0.3, 0.001, 1.7, 0.0]))
    found = fixed_point.multiply_by_quantized_multiplier(x, multiplier, shift)
    for c in range(4):
        alone = fixed_point.multiply_by_quantized_multiplier(x[..., c], multiplier[c], int(shift[c]))
        np.testing.assert_array_equal(found[..., c], alone)


@often
@given(st.floats(2.0**-31, 2.0**29))
def test_quantized_multiplier_is_the_nearest(real):
    multiplier, shift = fixed_point.quantize_multiplier(real)
    assert 1 << 30 <= multiplier <= INT32_MAX
    # Half a unit of a normalised Q31 number.
    assert abs(Fraction(int(multiplier)) * Fraction(2) ** (int(shift) - 31) / Fraction(real) - 1) <= Fraction(
        1, 1 << 31
    )


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.0, (0, 0)),
        (1.0, (1 << 30, 1)),
        (0.5, (1 << 30, 0)),
        (1.0 - 2.0**-40, (1 << 30, 1)),
        (2.0**-32, (1 << 30, -31)),
        (2.0**-33, (0, 0)),
        (1e-300, (0, 0)),
    ],
)
def test_quantized_multiplier_edges(real, expected):
    multiplier, shift = fixed_point.quantize_multiplier(real)
    assert (int(multiplier), int(shift)) == expected


@pytest.mark.parametrize("real", [-0.5, math.inf, math.nan, 2.0**31])
def test_bad_multipliers(real):
    with pytest.raises(ValueError, match="multiplier"):
        fixed_point.quantize_multiplier(real)


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "expected"),
    [
        ("none", 0.1, 3, (-128, 127)),
        ("relu", 0.1, 3, (3, 127)),
        ("relu", 0.1, -128, (-128, 127)),
        ("relu6", 0.1, -128, (-128, -68)),
        ("relu6", 4.0, 0, (0, 2)),
        ("relu6", 0.01, 0, (0, 127)),
        ("relu_n1_to_1", 2.0, 0, (-1, 1)),
        ("relu_n1_to_1", 0.25, 126, (122, 127)),
    ],
)
def test_activation_range(activation, scale, zero_point, expected):
    assert fixed_point.activation_range(activation, scale, zero_point) == expected


def test_activation_range_of_16_bits():
    assert fixed_point.activation_range("relu6", 6.0 / 32767, 0, bits=16) == (0, 32767)
