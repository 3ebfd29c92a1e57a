"""The numpy oracle of integer operators against loops over Python integers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.unit.numerics.one_op import OPS, OneOp, random_op
from tfq_pipeline.numerics import integer_ops
from tfq_pipeline.numerics.fixed_point import multiply_by_quantized_multiplier

CASES = [(op, seed) for op in OPS for seed in range(6)]


def tap_positions(case: OneOp, axis: int, kernel: int, out: int) -> list[tuple[int, int]]:
    """(kernel index, input index) of the taps of output `out` that lie inside the image."""
    stride, dilation = case.geometry["strides"][axis], case.geometry["dilations"][axis]
    size, extent, before = case.x.shape[1 + axis], (kernel - 1) * dilation + 1, 0
    if case.geometry["padding"] == "same":
        before = max(0, (-(-size // stride) - 1) * stride + extent - size) // 2
    places = [(k, out * stride + k * dilation - before) for k in range(kernel)]
    return [(k, place) for k, place in places if 0 <= place < size]


def sums(case: OneOp, shape: tuple[int, ...], zero_point: int) -> np.ndarray:
    total = np.zeros(shape, np.int64)
    x, w = case.x.astype(object), case.weights.astype(object)
    for at in np.ndindex(*shape):
        if case.op == "fully_connected":
            terms = [(x[at[0], i] - zero_point) * w[at[1], i] for i in range(w.shape[1])]
        else:
            b, row, column, c = at
            rows = tap_positions(case, 0, w.shape[1], row)
            columns = tap_positions(case, 1, w.shape[2], column)
            taps = itertools.product(rows, columns)
            if case.op == "conv2d":
                terms = [
                    (x[b, i, j, k] - zero_point) * w[c, ky, kx, k]
                    for ((ky, i), (kx, j)) in taps
                    for k in range(w.shape[3])
                ]
            else:
                source = c // (w.shape[3] // x.shape[3])
                terms = [(x[b, i, j, source] - zero_point) * w[0, ky, kx, c] for ((ky, i), (kx, j)) in taps]
        total[at] = sum(terms) + int(case.bias[at[-1]])
    return total


@pytest.mark.parametrize(("op", "seed"), CASES)
def test_equals_loops_over_python_integers(op, seed):
    case = random_op(np.random.default_rng(seed), op, bits=4 if seed % 2 else 8, per_channel=seed % 3 > 0, small=True)
    found = case.expected("single")
    real = np.float64(np.float32(case.input[0])) * case.weight_scale.astype(np.float64) / case.output[0]
    exact = sums(case, found.shape, case.input[1]) * real + case.output[1]
    clamped = np.clip(exact, *integer_ops.activation_range(case.activation, *case.output))
    # Rounded once; the Q31 multiplier adds next to nothing.
    assert np.abs(found - clamped).max() <= 0.5001


def test_sums_are_exact_and_checked():
    stage = integer_ops.output_stage(1.0, np.ones(1, np.float32), 1.0, 0)
    x, w = np.full((1, 70000), -128, np.int8), np.full((1, 70000), 127, np.int8)
    with pytest.raises(ValueError, match="leave 32 bits"):
        integer_ops.fully_connected(x, w, None, 127, stage)
    assert integer_ops.fully_connected(np.array([[5]], np.int8), np.array([[3]], np.int8), None, 1, stage)[0, 0] == 12


def test_stage_applies_multiplier_zero_point_and_range():
    stage = integer_ops.output_stage(0.5, np.array([0.25, 1.0], np.float32), 1.0, -3, "relu")
    sums_in = np.array([[1000, -7], [-1000, 7]], np.int32)
    expected = np.clip(multiply_by_quantized_multiplier(sums_in, stage.multiplier, stage.shift) - 3, -3, 127)
    np.testing.assert_array_equal(stage(sums_in), expected)
    np.testing.assert_array_equal(stage(sums_in), [[122, -3], [-3, 1]])
