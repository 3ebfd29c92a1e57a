"""The golden files are what the generator writes, and their numbers hold in exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.golden import generate

FOLDER = Path(generate.__file__).parent
RENDERED = generate.render()


def rows(name: str) -> list[list[int]]:
    header, *lines = (FOLDER / name).read_text().splitlines()
    assert header.startswith("# ")
    return [[int(value) for value in line.split("\t")] for line in lines]


def f32(bits: int) -> float:
    return float(np.int32(bits).view(np.float32))


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def half_away(value: Fraction) -> int:
    return half_up(value) if value >= 0 else -half_up(-value)


def f32_quotient(numerator: float, denominator: float) -> Fraction:
    """The float32 nearest to the exact quotient: by way of double, which is wide enough not to round twice."""
    return Fraction(float(np.float32(float(Fraction(numerator) / Fraction(denominator)))))


def qmin_qmax(bits: int, narrow: int) -> tuple[int, int]:
    return -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1


def test_every_file_is_generated():
    assert {path.name for path in FOLDER.glob("*.tsv")} == set(RENDERED)


@pytest.mark.parametrize("name", sorted(RENDERED))
def test_committed_text_is_what_the_generator_writes(name):
    assert (FOLDER / name).read_text() == RENDERED[name]


def test_fixed_point():
    table = rows("fixed_point.tsv")
    for x, multiplier, shift, double, upward, single in table:
        high = half_up(Fraction((x << max(shift, 0)) * multiplier, 1 << 31))
        right = 1 << max(-shift, 0)
        assert double == half_away(Fraction(high, right))
        assert upward == half_up(Fraction(high, right))
        assert single == half_up(Fraction(x * multiplier) * Fraction(2) ** (shift - 31))
    assert {row[2] for row in table} >= {-31, -1, 0, 1, 30}
    assert {row[0] for row in table} >= {-(2**31), 2**31 - 1, 0}


def test_quantize_multiplier():
    for bits, multiplier, shift in rows("quantize_multiplier.tsv"):
        real = Fraction(float(np.int64(bits).view(np.float64)))
        exponent = math.frexp(float(real))[1]
        nearest = half_away(real / Fraction(2) ** exponent * 2**31)
        if nearest == 2**31:
            nearest, exponent = 2**30, exponent + 1
        assert (multiplier, shift) == ((nearest, exponent) if exponent >= -31 else (0, 0))


def test_activation_range():
    bounds = {0: (None, None), 1: (0, None), 2: (-1, 1), 3: (0, 6)}
    for code, scale, zero_point, low, high in rows("activation_range.tsv"):
        lower, upper = bounds[code]
        assert low == (-128 if lower is None else max(-128, zero_point + half_away(f32_quotient(lower, f32(scale)))))
        assert high == (127 if upper is None else min(127, zero_point + half_away(f32_quotient(upper, f32(scale)))))


def test_affine():
    for low_bits, high_bits, bits, symmetric, narrow, scale_bits, zero_point in rows("affine.tsv"):
        low, high = min(Fraction(f32(low_bits)), Fraction(0)), max(Fraction(f32(high_bits)), Fraction(0))
        qmin, qmax = qmin_qmax(bits, narrow)
        span, steps = (max(-low, high), qmax) if symmetric else (high - low, qmax - qmin)
        if float(span) < np.finfo(np.float64).eps:
            assert (f32(scale_bits), zero_point) == (1.0, 0)
            continue
        scale = span / steps
        assert np.float32(float(scale)).view(np.int32) == scale_bits
        assert zero_point == (0 if symmetric else qmin + half_up(-low / scale))


def test_quantize():
    for x_bits, bits, narrow, scale_bits, zero_point, q in rows("quantize.tsv"):
        qmin, qmax = qmin_qmax(bits, narrow)
        x = f32(x_bits)
        if math.isinf(x):
            assert q == (qmax if x > 0 else qmin)
            continue
        assert q == min(max(half_away(f32_quotient(x, f32(scale_bits))) + zero_point, qmin), qmax)


def test_int4_packing():
    for count, *numbers in rows("int4_packing.tsv"):
        values, packed = numbers[:count], numbers[count:]
        assert len(packed) == (count + 1) // 2
        nibbles = [half for byte in packed for half in (byte % 16, byte // 16)]
        assert [n - 16 if n > 7 else n for n in nibbles[:count]] == values
        assert not any(nibbles[count:])
