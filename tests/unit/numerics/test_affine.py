"""Uniform affine quantization: properties over random ranges and values, and each error."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tfq_pipeline.numerics.affine import (
    Affine,
    dequantize,
    fake_quantize,
    float_range,
    from_range,
    lowest_stored,
    quantize,
    spread,
    stored,
    weight_range,
)

often = settings(deadline=None, max_examples=150)
FLOAT32 = st.floats(-(2.0**100), 2.0**100, width=32)
BITS = st.integers(2, 16)


@st.composite
def parameters(draw: st.DrawFn) -> Affine:
    low, high = sorted((draw(FLOAT32), draw(FLOAT32)))
    return from_range(low, high, draw(BITS), symmetric=draw(st.booleans()), narrow=draw(st.booleans()))


@st.composite
def parameters_and_values(draw: st.DrawFn) -> tuple[Affine, np.ndarray]:
    affine = draw(parameters())
    low, high = (float(bound[0]) for bound in float_range(affine))
    values = st.floats(-0.2, 1.2).map(lambda t: low + t * (high - low))
    return affine, np.array(draw(st.lists(values, min_size=1, max_size=20)), np.float32)


@often
@given(parameters_and_values())
def test_error_is_at_most_half_a_step_inside_the_range_and_saturates_outside(case):
    affine, x = case
    low, high = (float(bound[0]) for bound in float_range(affine))
    scale = float(affine.scale[0])
    # The division and the product each round once to float32.
    slack = 4 * np.finfo(np.float32).eps * max(-low, high)
    error = np.abs(np.clip(x, low, high).astype(np.float64) - fake_quantize(x, affine))
    assert (error <= scale / 2 + slack).all()


@often
@given(parameters_and_values())
def test_integers_of_a_file_saturate_at_the_top_of_fewer_bits_and_need_their_bottom(case):
    affine, x = case
    assume(not affine.narrow)
    held = stored(affine)
    integers = quantize(x, held)
    assert held.bits == (8 if affine.bits <= 8 else 16)
    assert integers.dtype == (np.int8 if affine.bits <= 8 else np.int16)
    clipped = np.maximum(integers, lowest_stored(affine))
    np.testing.assert_array_equal(dequantize(clipped, held), fake_quantize(x, affine))


@often
@given(parameters_and_values())
def test_integers_far_apart_stand_for_the_same_values(case):
    affine, x = case
    assume(affine.scale[0] > 2.0**-100 and not affine.narrow)
    far, step = spread(affine), 2 ** max(8 - affine.bits, 0)
    integers = quantize(x, affine).astype(np.int32) - affine.zero_point
    np.testing.assert_array_equal(quantize(fake_quantize(x, affine), far) - far.zero_point, step * integers)
    np.testing.assert_array_equal(fake_quantize(fake_quantize(x, affine), far), fake_quantize(x, affine))
    assert far.bits == max(affine.bits, 8)
    if affine.bits < 8:
        ends = np.array([-(2 ** (affine.bits - 1)), 2 ** (affine.bits - 1) - 1]) - affine.zero_point
        np.testing.assert_array_equal(step * ends + far.zero_point, [-128, 128 - step])


@often
@given(parameters_and_values())
def test_quantize_is_monotonic(case):
    affine, x = case
    assert (np.diff(quantize(np.sort(x), affine).astype(np.int32)) >= 0).all()


@often
@given(parameters_and_values())
def test_fake_quantize_is_idempotent(case):
    affine, x = case
    once = fake_quantize(x, affine)
    np.testing.assert_array_equal(fake_quantize(once, affine), once)


@often
@given(parameters())
def test_zero_is_exact(affine):
    assert fake_quantize(np.zeros(1, np.float32), affine)[0] == 0.0
    assert quantize(np.zeros(1, np.float32), affine)[0] == affine.zero_point[0]


@often
@given(parameters())
def test_every_integer_survives_the_round_trip(affine):
    every = np.arange(affine.qmin, affine.qmax + 1)
    np.testing.assert_array_equal(quantize(dequantize(every, affine), affine), every)


@often
@given(parameters())
def test_integers_have_the_smallest_type_and_stay_in_range(affine):
    q = quantize(np.array([-np.inf, -1.0, 1.0, np.inf], np.float32), affine)
    assert q.dtype == (np.int8 if affine.bits <= 8 else np.int16)
    assert (q[0], q[-1]) == (affine.qmin, affine.qmax)
    assert affine.qmax == 2 ** (affine.bits - 1) - 1
    assert affine.qmin == (-affine.qmax if affine.narrow else -affine.qmax - 1)


@often
@given(parameters())
def test_float_range_gives_the_parameters_back(affine):
    low, high = float_range(affine)
    again = from_range(low, high, affine.bits, symmetric=False, narrow=affine.narrow)
    assert again.zero_point[0] == affine.zero_point[0]
    assert abs(again.scale[0] - affine.scale[0]) <= np.spacing(affine.scale[0])


@often
@given(FLOAT32, FLOAT32, BITS, st.booleans())
def test_scale_and_zero_point_match_exact_fractions(a, b, bits, narrow):
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    assume(high - low > 1e-15)
    affine = from_range(low, high, bits, symmetric=False, narrow=narrow)
    steps = affine.qmax - affine.qmin
    exact = (Fraction(high) - Fraction(low)) / steps
    assert abs(Fraction(float(affine.scale[0])) - exact) <= Fraction(2) ** -24 * exact
    # Half a step of nudging, and the rounding errors of two double operations.
    assert abs(int(affine.zero_point[0]) - affine.qmin + Fraction(low) / exact) <= Fraction(1, 2) + Fraction(1, 10**9)


@often
@given(FLOAT32, FLOAT32, BITS, st.booleans())
def test_symmetric_scale_covers_the_larger_side(a, b, bits, narrow):
    low, high = sorted((a, b))
    magnitude = max(abs(low), abs(high))
    assume(magnitude > 1e-15)
    affine = from_range(low, high, bits, symmetric=True, narrow=narrow)
    exact = Fraction(magnitude) / (2 ** (bits - 1) - 1)
    assert affine.zero_point[0] == 0
    assert abs(Fraction(float(affine.scale[0])) - exact) <= Fraction(2) ** -24 * exact


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.5, 1), (-0.5, -1), (1.5, 2), (-2.5, -3), (0.49999997, 0), (-0.49999997, 0), (126.5, 127), (-200.0, -128)],
)
def test_halves_round_away_from_zero(value, expected):
    unit = Affine(8, np.ones(1, np.float32), np.zeros(1, np.int32), None, True, False)
    assert quantize(np.array([value], np.float32), unit)[0] == expected


@pytest.mark.parametrize("bound", [0.0, 1e-45, 1e-30, 1e-17])
@pytest.mark.parametrize("symmetric", [True, False])
def test_empty_range_takes_scale_one(bound, symmetric):
    affine = from_range(-bound, bound, 8, symmetric=symmetric)
    assert (affine.scale[0], affine.zero_point[0]) == (1.0, 0)


def test_range_of_one_constant_is_widened_to_zero():
    assert from_range(2.0, 2.0, 8, symmetric=False).zero_point[0] == -128
    assert from_range(-2.0, -2.0, 8, symmetric=False).zero_point[0] == 127
    np.testing.assert_allclose(float_range(from_range(2.0, 2.0, 8, symmetric=False)), [[0.0], [2.0]], rtol=1e-6)


def test_dead_channel_borrows_the_largest_scale_of_the_others():
    affine = from_range(np.array([-1.0, 0.0, -4.0]), np.array([1.0, 0.0, 2.0]), 8, symmetric=True, narrow=True, axis=0)
    np.testing.assert_array_equal(affine.scale, np.array([1, 4, 4], np.float32) / np.float32(127))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_channels_are_quantized_apart(axis):
    w = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32) * np.float32(3)
    affine = from_range(*weight_range(w, axis), 4, symmetric=True, narrow=True, axis=axis)
    whole = quantize(w, affine)
    for channel in range(w.shape[axis]):
        part = np.take(w, channel, axis)
        alone = from_range(*weight_range(part, None), 4, symmetric=True, narrow=True)
        assert alone.scale[0] == affine.scale[channel]
        np.testing.assert_array_equal(np.take(whole, channel, axis), quantize(part, alone))


def test_largest_float32_range_has_a_finite_scale():
    top = np.finfo(np.float32).max
    affine = from_range(-top, top, 8, symmetric=False)
    assert np.isfinite(affine.scale).all()
    assert np.isfinite(float_range(affine)).all()


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (np.nan, 1.0, "low end of the range has 1 NaN and 0 infinite"),
        (-1.0, np.inf, "high end of the range has 0 NaN and 1 infinite"),
        (1.0, -1.0, "upside down"),
        (np.zeros(2), np.zeros(3), "one shape"),
    ],
)
def test_bad_ranges(low, high, message):
    with pytest.raises(ValueError, match=message):
        from_range(low, high, 8, symmetric=False, axis=0)


@pytest.mark.parametrize("bits", [1, 17])
def test_bits_out_of_range(bits):
    with pytest.raises(ValueError, match="bits must be 2 to 16"):
        from_range(-1.0, 1.0, bits, symmetric=True)


def test_values_that_cannot_be_quantized():
    affine = from_range(-1.0, 1.0, 8, symmetric=True)
    with pytest.raises(ValueError, match="2 NaN of 3"):
        quantize(np.array([np.nan, 1.0, np.nan]), affine)
    with pytest.raises(ValueError, match="1 NaN and 1 infinite of 3"):
        weight_range(np.array([np.nan, 1.0, np.inf]), None)
    with pytest.raises(ValueError, match="empty tensor"):
        weight_range(np.zeros((0, 3)), None)
    per_channel = from_range(np.zeros(2), np.ones(2), 8, symmetric=False, axis=0)
    with pytest.raises(ValueError, match="2 channels on axis 0 do not fit"):
        quantize(np.zeros((3, 2)), per_channel)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": np.ones(1)}, "must be float32"),
        ({"scale": np.ones((1, 1), np.float32)}, "vectors of one length"),
        ({"scale": np.zeros(1, np.float32)}, "finite and positive"),
        ({"scale": np.full(1, np.nan, np.float32)}, "finite and positive"),
        ({"zero_point": np.full(1, 128, np.int32), "symmetric": False}, r"outside \[-128, 127\]"),
        ({"zero_point": np.full(1, 1, np.int32)}, "symmetric parameters"),
        ({"scale": np.ones(2, np.float32), "zero_point": np.zeros(2, np.int32)}, "need a channel axis"),
    ],
)
def test_parameters_that_break_a_rule(changes, message):
    valid = {
        "bits": 8,
        "scale": np.ones(1, np.float32),
        "zero_point": np.zeros(1, np.int32),
        "axis": None,
        "symmetric": True,
        "narrow": False,
    }
    with pytest.raises(ValueError, match=message):
        Affine(**(valid | changes))
