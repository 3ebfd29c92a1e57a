"""Writes the golden vectors that the Python and the C++ tests read: `python -m tests.golden.generate`.

Each file is tab-separated integers below one line `# name<TAB>...` with the columns' names. Floating-point numbers are
given as their IEEE 754 bit patterns in columns that end in `_f32` (signed 32-bit) or `_f64` (signed 64-bit).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tfq_pipeline.numerics import affine, fixed_point, packing

INT32_MIN, INT32_MAX = fixed_point.INT32_MIN, fixed_point.INT32_MAX

# The numbers of the schema's ActivationFunctionType.
ACTIVATION_CODES: dict[int, fixed_point.Activation] = {0: "none", 1: "relu", 2: "relu_n1_to_1", 3: "relu6"}


def f32_bits(value: float) -> int:
    """The bit pattern of a float32 as a signed integer."""
    return int(np.float32(value).view(np.int32))


def f64_bits(value: float) -> int:
    """The bit pattern of a float64 as a signed integer."""
    return int(np.float64(value).view(np.int64))


def any_magnitude(rng: np.random.Generator, low: int, high: int) -> float:
    """A random number between 2^low and 2^high, of even density in its exponent, by exact operations alone."""
    return float(np.ldexp(rng.uniform(1.0, 2.0), int(rng.integers(low, high))))


def table(columns: str, rows: Iterable[Iterable[int]]) -> str:
    """The text of one file."""
    lines = ["# " + "\t".join(columns.split())]
    lines += ["\t".join(str(int(value)) for value in row) for row in rows]
    return "\n".join(lines) + "\n"


def fixed_point_tsv() -> str:
    """The three multiplications, without sums that a left shift drives out of 32 bits: C leaves those undefined."""
    rng = np.random.default_rng(1)
    values = [
        0,
        1,
        -1,
        2,
        -2,
        3,
        -3,
        127,
        -128,
        1 << 30,
        -(1 << 30),
        INT32_MAX,
        INT32_MAX - 1,
        INT32_MIN,
        INT32_MIN + 1,
    ]
    multipliers = [0, 1, 1 << 30, (1 << 30) + 1, 3 << 29, INT32_MAX - 1, INT32_MAX]
    shifts = [-31, -30, -16, -8, -2, -1, 0, 1, 2, 8, 16, 29, 30]
    cases = list(itertools.product(values, multipliers, shifts))
    # Exact ties of the second rounding (multiplier one half, odd multiples of the divisor), of both signs.
    cases += [(sign * odd << right, 1 << 30, -right) for right in range(1, 20) for odd in (1, 3, 5) for sign in (1, -1)]
    # What a convolution meets: sums of some ten thousands, normalised multipliers, shifts of a few bits.
    cases += [
        (int(rng.integers(-1 << 17, 1 << 17)), int(rng.integers(1 << 30, 1 << 31)), int(rng.integers(-12, 3)))
        for _ in range(400)
    ]
    cases += [
        (int(rng.integers(INT32_MIN, INT32_MAX + 1)), int(rng.integers(0, 1 << 31)), int(rng.integers(-31, 1)))
        for _ in range(400)
    ]
    rows = []
    for x, multiplier, shift in cases:
        if not INT32_MIN <= x << max(shift, 0) <= INT32_MAX:
            continue
        arguments = np.int32(x), np.int32(multiplier), shift
        rows.append(
            [
                x,
                multiplier,
                shift,
                fixed_point.multiply_by_quantized_multiplier(*arguments),
                fixed_point.multiply_by_quantized_multiplier_upward(*arguments),
                fixed_point.multiply_by_quantized_multiplier_single_rounding(*arguments),
            ]
        )
    return table("x multiplier shift double double_upward single", rows)


def quantize_multiplier_tsv() -> str:
    """Real multipliers and their Q31 form."""
    rng = np.random.default_rng(2)
    edges = [0.0, 1.0, 0.5, 2.0, 0.75, 1.0 - 2.0**-53, 1.0 - 2.0**-32, 1.0 - 2.0**-33, 0.5 + 2.0**-33, 3.0 * 2.0**-32]
    powers = [2.0**e for e in (-40, -33, -32, -31, -30, 29)] + [(1.0 - 2.0**-40) * 2.0**e for e in (-32, -31, 29)]
    reals = edges + powers + [any_magnitude(rng, -30, 5) for _ in range(200)]
    return table(
        "real_f64 multiplier shift", ([f64_bits(real), *fixed_point.quantize_multiplier(real)] for real in reals)
    )


def activation_range_tsv() -> str:
    """Integer ranges of fused activations; the activation is the schema's number."""
    rng = np.random.default_rng(3)
    scales = [1.0, 0.5, 4.0, 0.0235294122, 6.0 / 255, 2.0 / 127, 1e-3, 12.0, 1e-8]
    scales += [any_magnitude(rng, -9, 2) for _ in range(20)]
    rows = []
    for code, scale, zero_point in itertools.product(ACTIVATION_CODES, scales, (-128, -100, -1, 0, 5, 127)):
        low, high = fixed_point.activation_range(ACTIVATION_CODES[code], scale, zero_point)
        rows.append([code, f32_bits(scale), zero_point, low, high])
    return table("activation scale_f32 zero_point low high", rows)


def affine_tsv() -> str:
    """Ranges and the parameters that they become."""
    rng = np.random.default_rng(4)
    ranges = [
        (0.0, 0.0),
        (0.0, 6.0),
        (-1.0, 1.0),
        (-127.5, 127.5),
        (-128.0, 127.0),
        (2.0, 3.0),
        (-3.0, -2.0),
        (-6.0, 0.0),
    ]
    ranges += [(-1e-30, 1e-30), (-0.1, 1000.0), (-1000.0, 0.1), (-3e38, 3e38)]
    for _ in range(40):
        low, high = sorted(rng.uniform(-1.0, 1.0, 2) * any_magnitude(rng, -14, 14))
        ranges.append((float(np.float32(low)), float(np.float32(high))))
    rows = []
    for (low, high), bits, symmetric, narrow in itertools.product(ranges, (4, 8, 16), (0, 1), (0, 1)):
        found = affine.from_range(low, high, bits, symmetric=bool(symmetric), narrow=bool(narrow))
        rows.append(
            [f32_bits(low), f32_bits(high), bits, symmetric, narrow, f32_bits(found.scale[0]), found.zero_point[0]]
        )
    return table("low_f32 high_f32 bits symmetric narrow scale_f32 zero_point", rows)


def quantize_tsv() -> str:
    """Real values and their integers, the value nearest below one half and exact ties among them."""
    rng = np.random.default_rng(5)
    parameter_sets = [(8, 0, 1.0, 0), (8, 0, 0.5, -3), (8, 1, 0.0235294122, 0), (4, 0, 0.25, 1), (4, 1, 0.1, 0)]
    parameter_sets += [(16, 0, 1e-3, 0), (2, 1, 0.7, 0)]
    rows = []
    for bits, narrow, scale, zero_point in parameter_sets:
        parameters = affine.Affine(
            bits, np.array([scale], np.float32), np.array([zero_point], np.int32), None, zero_point == 0, bool(narrow)
        )
        steps = [0.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 0.49999997, -0.49999997, 1e9, -1e9, np.inf, -np.inf]
        steps += rng.uniform(-1.2, 1.2, 20).tolist() + (rng.uniform(-1.2, 1.2, 20) * (1 << (bits - 1))).tolist()
        x = (np.array(steps, np.float32) * np.float32(scale)).astype(np.float32)
        rows += [
            [f32_bits(value), bits, narrow, f32_bits(scale), zero_point, q]
            for value, q in zip(x, affine.quantize(x, parameters), strict=True)
        ]
    return table("x_f32 bits narrow scale_f32 zero_point q", rows)


def int4_packing_tsv() -> str:
    """Values and their bytes: `count` values, then (count + 1) // 2 bytes."""
    rng = np.random.default_rng(6)
    cases = [[], [7], [-8], [-1], [0, 0], [7, -8], [-8, 7], [-1, 0, 1], list(range(-8, 8)), list(range(7, -9, -1))]
    cases += [rng.integers(-8, 8, int(n)).tolist() for n in rng.integers(1, 40, 30)]
    return table(
        "count values_then_bytes",
        ([len(values), *values, *packing.pack_int4(np.array(values, np.int8))] for values in cases),
    )


def render() -> dict[str, str]:
    """File name to text, for every golden file."""
    return {
        "fixed_point.tsv": fixed_point_tsv(),
        "quantize_multiplier.tsv": quantize_multiplier_tsv(),
        "activation_range.tsv": activation_range_tsv(),
        "affine.tsv": affine_tsv(),
        "quantize.tsv": quantize_tsv(),
        "int4_packing.tsv": int4_packing_tsv(),
    }


def main() -> None:
    """Writes every file beside this one."""
    for name, text in render().items():
        Path(__file__).with_name(name).write_text(text)


if __name__ == "__main__":
    main()
