"""Quantizers against their papers' formulas, computed value by value in numpy, and against the numerics of a plan."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfq_pipeline.annotate.quantizers import WEIGHTS, Techniques, activation_quantizer, weight_quantizer
from tfq_pipeline.annotate.quantizers.binary import BinaryWeights
from tfq_pipeline.annotate.quantizers.codebook import CodebookWeights
from tfq_pipeline.annotate.quantizers.logarithmic import LogarithmicWeights
from tfq_pipeline.annotate.quantizers.lsq import LSQWeights, lsq_activation
from tfq_pipeline.annotate.quantizers.lsq_plus import lsq_plus_activation
from tfq_pipeline.annotate.quantizers.pact import PACTActivation, pact
from tfq_pipeline.annotate.quantizers.seq import SEQWeights
from tfq_pipeline.annotate.quantizers.ternary import TernaryWeights
from tfq_pipeline.annotate.quantizers.ttq import TTQWeights
from tfq_pipeline.numerics.affine import Affine, fake_quantize

SHAPE = (4, 5, 6, 3)


def values(seed, low=-2.0, high=2.0, shape=SHAPE):
    rng = np.random.default_rng(seed)
    return rng.uniform(low, high, shape), rng.normal(size=shape)


def gradients(function, upstream, *arguments):
    variables = [tf.Variable(a, dtype=tf.float32) for a in arguments]
    with tf.GradientTape() as tape:
        y = function(*variables)
    found = tape.gradient(y, variables, output_gradients=tf.constant(upstream, tf.float32))
    return y.numpy(), [g.numpy() for g in found]


def rounded(v):
    return np.sign(v) * np.floor(np.abs(v) + 0.5)


class Host(tf_keras.layers.Layer):
    """A layer that owns a quantizer, as TFMOT's wrapper does."""

    def __init__(self, quantizer, shape):
        super().__init__()
        self.quantizer = quantizer
        self.variables_of = quantizer.build(shape, "tensor", self)

    def call(self, x, training=None):
        return self.quantizer(x, True, self.variables_of)


@pytest.mark.parametrize(("lowest", "highest"), [(0, 15), (-8, 7), (-15, 0)])
def test_lsq_activations_have_the_gradients_of_equations_3_and_5(lowest, highest):
    x, g = values(1)
    step = 0.11
    y, (by_x, by_step) = gradients(lambda x, s: lsq_activation(x, s, lowest, highest, 4), g, x, step)
    v = x / step
    inside = (v > lowest) & (v < highest)
    each = np.where(inside, rounded(v) - v, np.clip(v, lowest, highest))
    np.testing.assert_allclose(y, np.clip(rounded(v), lowest, highest) * step, atol=1e-5)
    np.testing.assert_allclose(by_x, g * inside, atol=1e-6)
    scale = 1 / np.sqrt(np.prod(SHAPE[1:]) * max(highest, -lowest))
    assert by_step == pytest.approx((g * each).sum() * scale, rel=1e-3)


@pytest.mark.parametrize("start", [np.full((1, 1, 1, 3), 0.3), np.full((1, 1, 1, 1), 0.3)])
def test_lsq_weights_have_the_gradients_of_equations_3_and_5(start):
    w, g = values(2)
    start = (start * np.linspace(0.8, 1.2, start.size)).astype(np.float32)
    host = Host(LSQWeights(4, list(SHAPE), start), SHAPE)
    kernel = tf.Variable(w, dtype=tf.float32)
    with tf.GradientTape() as tape:
        y = host(kernel)
    by_w, by_ratio = tape.gradient(y, [kernel, host.variables_of["step"]], tf.constant(g, tf.float32))
    v = w / start
    inside = np.abs(v) < 7
    axes = tuple(a for a in range(4) if start.shape[a] == 1)
    by_step = (g * np.where(inside, rounded(v) - v, np.sign(v) * 7)).sum(axis=axes, keepdims=True)
    by_step /= np.sqrt(w.size / start.size * 7)
    np.testing.assert_allclose(y, np.clip(rounded(v), -7, 7) * start, atol=1e-6)
    np.testing.assert_allclose(by_w, g * inside, atol=1e-6)
    # The variable is the step over its start: what moves it by one moves the step by its start.
    np.testing.assert_allclose(by_ratio, by_step / start, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, -0.5, -1.2])
def test_lsq_plus_has_the_gradients_of_equations_4_and_5(offset):
    x, g = values(3)
    step = 0.1
    y, (by_x, by_step, by_offset) = gradients(lambda x, s, b: lsq_plus_activation(x, s, b, 4), g, x, step, offset)
    lowest = step * np.floor(offset / step + 0.5)
    v = (x - lowest) / step
    inside = (v > 0) & (v < 15)
    np.testing.assert_allclose(y, np.clip(rounded(v), 0, 15) * step + lowest, atol=1e-5)
    np.testing.assert_allclose(by_x, g * inside, atol=1e-6)
    scale = 1 / np.sqrt(np.prod(SHAPE[1:]) * 15)
    assert by_step == pytest.approx((g * np.where(inside, rounded(v) - v, np.clip(v, 0, 15))).sum() * scale, rel=1e-3)
    assert by_offset == pytest.approx((g * ~inside).sum() * scale, rel=1e-3, abs=1e-5)


def test_pact_has_the_gradient_of_equation_3():
    x, g = values(4)
    y, (by_x, by_level) = gradients(lambda x, a: pact(x, a, 0.0, 1.0, 4), g, x, 1.5)
    np.testing.assert_allclose(y, rounded(np.clip(x, 0, 1.5) * 10) / 10, atol=1e-5)
    np.testing.assert_allclose(by_x, g * ((x > 0) & (x < 1.5)), atol=1e-6)
    assert by_level == pytest.approx((g * (x >= 1.5)).sum(), rel=1e-4)


def test_pact_decays_its_level_in_the_loss_of_the_model():
    x = tf_keras.Input(SHAPE[1:])
    host = Host(PACTActivation(8, 0.01, -128, False, decay=0.25), SHAPE)
    model = tf_keras.Model(x, host(x))
    assert float(model.losses[0]) == pytest.approx(0.25 * (255 * 0.01) ** 2, rel=1e-5)


@pytest.mark.parametrize("technique", ["moving_average", "lsq", "lsq_plus", "pact"])
@pytest.mark.parametrize(
    ("bits", "zero_point", "symmetric"), [(8, -128, False), (8, 17, False), (4, -3, False), (16, 0, True)]
)
def test_activations_start_as_planned_and_end_in_a_plan(technique, bits, zero_point, symmetric):
    x = values(5)[0].astype(np.float32)
    scale = np.float32(2.5 / 2**bits)
    start = Affine(bits, np.array([scale]), np.array([zero_point], np.int32), None, symmetric, False)
    host = Host(activation_quantizer("layer", start, Techniques(activations=technique, decay=0.1)), SHAPE)

    def matches(affine):
        error = np.abs(host(x).numpy() - fake_quantize(x, affine)) / affine.scale[0]
        assert error.max() < 1.01
        assert (error > 0.01).mean() < 0.01 if bits < 16 else error.mean() < 0.6

    matches(start)
    for variable in host.trainable_variables:
        variable.assign(variable * 1.37)
    ended = host.quantizer.affine({name: v.numpy() for name, v in host.variables_of.items()})
    assert (ended.bits, ended.symmetric) == (bits, symmetric)
    if technique != "moving_average":
        assert ended.scale[0] == pytest.approx(1.37 * scale, rel=1e-5)
    matches(ended)


def test_layers_that_are_frozen_learn_nothing():
    start = Affine(8, np.array([1 / 256], np.float32), np.array([-128], np.int32), None, False, False)
    host = Host(activation_quantizer("gate", start, Techniques(activations="lsq", frozen=frozenset({"gate"}))), SHAPE)
    assert host.trainable_variables == []


def test_ternary_weights_are_those_of_the_paper():
    w = np.random.default_rng(6).normal(size=(40, 3)).astype(np.float32)
    quantizer = TernaryWeights(2, [40, 3], np.ones((1, 3)))
    got = quantizer(tf.constant(w), True, {}).numpy()
    for channel in range(3):
        column = w[:, channel]
        kept = np.abs(column) > 0.7 * np.abs(column).mean()
        want = np.where(kept, np.sign(column) * np.abs(column[kept]).mean(), 0)
        np.testing.assert_allclose(got[:, channel], want, rtol=1e-5)
    scale, integers = np.asarray(quantizer.scale(w, {})), quantizer.integers(w, {})
    np.testing.assert_allclose(integers * scale, got, rtol=1e-5)


@pytest.mark.parametrize(("bits", "powers"), [(2, [1]), (4, [1, 2, 4]), (8, [1, 2, 4, 8, 16, 32, 64])])
def test_logarithmic_weights_go_to_the_power_of_two_that_is_nearest_as_a_ratio(bits, powers):
    w = np.random.default_rng(7).normal(size=(200, 3)).astype(np.float32)
    quantizer = LogarithmicWeights(bits, [200, 3], np.ones((1, 3)))
    scale = np.abs(w).max(axis=0) / powers[-1]
    magnitudes = np.abs(w) / scale
    nearest = np.argmin(np.abs(np.log2(magnitudes)[..., None] - np.log2(powers)), axis=-1)
    want = np.where(magnitudes < np.sqrt(0.5), 0, np.asarray(powers)[nearest]) * np.sign(w)
    np.testing.assert_array_equal(quantizer.integers(w, {}), want)
    np.testing.assert_allclose(np.asarray(quantizer.scale(w, {}))[0], scale, rtol=1e-6)
    kernel = tf.Variable(w)
    with tf.GradientTape() as tape:
        y = quantizer(kernel, True, {})
    np.testing.assert_allclose(y, want * scale, rtol=1e-5)
    np.testing.assert_array_equal(tape.gradient(y, kernel), np.ones_like(w))


def test_logarithmic_weights_that_are_all_zero_stay_finite():
    quantizer = LogarithmicWeights(4, [5, 2], np.full((1, 2), 0.3))
    zeros = np.zeros((5, 2), np.float32)
    np.testing.assert_array_equal(quantizer(tf.constant(zeros), True, {}), zeros)
    np.testing.assert_allclose(np.asarray(quantizer.scale(zeros, {})), 0.3, rtol=1e-6)


def test_binary_weights_are_signs_times_the_mean_magnitude():
    w = np.array([[0.5, -2.0], [-1.5, 0.0]], np.float32)
    quantizer = BinaryWeights(2, [2, 2], np.array([[1.5, 2.0]]))
    np.testing.assert_allclose(quantizer(tf.constant(w), True, {}), [[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_array_equal(quantizer.integers(w, {}), [[1, -1], [-1, 1]])
    grown = tf.Variable(w * 1.2)
    with tf.GradientTape() as tape:
        y = quantizer(grown, True, {})
    np.testing.assert_array_equal(tape.gradient(y, grown), [[1, 0], [0, 1]])


@pytest.mark.parametrize("scales", [(1, 1, 1, 3), (1, 1, 1, 1)])
def test_ttq_has_the_gradients_of_equations_7_and_8(scales):
    w, g = values(8)
    w = w.astype(np.float32)
    axes = tuple(axis for axis, n in enumerate(scales) if n == 1)
    quantizer = TTQWeights.starting(2, w, np.full(scales, 0.5, np.float32))
    largest = np.abs(w).max(axis=axes, keepdims=True)
    above, below = w > 0.05 * largest, w < -0.05 * largest

    def mean(mask):
        return (np.abs(w) * mask).sum(axis=axes, keepdims=True) / mask.sum(axis=axes, keepdims=True)

    high, low = 1.3 * mean(above), 0.6 * mean(below)
    host = Host(quantizer, SHAPE)
    host.variables_of["levels"].assign(host.variables_of["levels"] * np.reshape([1.3, 0.6], (2, 1, 1, 1, 1)))
    kernel = tf.Variable(w)
    with tf.GradientTape() as tape:
        y = host(kernel)
    by_w, by_ratio = tape.gradient(y, [kernel, host.variables_of["levels"]], tf.constant(g, tf.float32))
    # The larger level is 7 steps of the file's scale, the smaller one a whole number of them.
    scale = np.maximum(high, low) / 7
    stands = rounded(high / scale) * scale * above - rounded(low / scale) * scale * below
    np.testing.assert_allclose(y, stands, rtol=1e-5)
    np.testing.assert_allclose(by_w, g * np.where(above, high, np.where(below, low, largest)) / largest, rtol=1e-4)
    by_levels = np.stack([(g * above).sum(axis=axes, keepdims=True), -(g * below).sum(axis=axes, keepdims=True)])
    np.testing.assert_allclose(by_ratio, by_levels / quantizer.levels, rtol=1e-3, atol=1e-4)
    assert quantizer.width(host.variables_of) == 4
    np.testing.assert_allclose(quantizer.integers(w, host.variables_of) * scale, stands, rtol=1e-5)


def test_ttq_levels_go_down_the_loss_that_their_gradient_is_of():
    w = values(9)[0].astype(np.float32)
    host = Host(TTQWeights.starting(2, w, np.full((1, 1, 1, 1), 0.5, np.float32)), SHAPE)
    wanted = np.where(w > 0.1, 1.4, np.where(w < -0.1, -0.4, 0.0))
    levels = host.variables_of["levels"]
    for _ in range(200):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((host(tf.constant(w)) - wanted) ** 2)
        levels.assign_sub(0.2 * tape.gradient(loss, levels))
    got = np.asarray(host.quantizer.scale(w, host.variables_of)).item() * np.array([7, 2])
    np.testing.assert_allclose(got, [1.4, 0.4], rtol=0.03)


@pytest.mark.parametrize("bits", [2, 3])
def test_seq_has_the_gradients_of_a_grid_without_a_zero(bits):
    w, g = values(13)
    w = w.astype(np.float32)
    quantizer = SEQWeights.starting(bits, w, np.full((1, 1, 1, 3), 0.5, np.float32))
    host = Host(quantizer, SHAPE)
    host.variables_of["step"].assign(0.7 * tf.ones_like(host.variables_of["step"]))
    kernel = tf.Variable(w)
    with tf.GradientTape() as tape:
        y = host(kernel)
    by_w, by_ratio = tape.gradient(y, [kernel, host.variables_of["step"]], tf.constant(g, tf.float32))
    half = 0.7 * quantizer.start
    grid = np.arange(1 - 2**bits, 2**bits, 2)
    integers = grid[np.abs((w / half)[..., None] - grid).argmin(axis=-1)]
    inside = np.abs(w / half) < 2**bits
    np.testing.assert_allclose(y, integers * half, rtol=1e-5)
    np.testing.assert_allclose(by_w, g * inside, atol=1e-6)
    each = np.where(inside, integers - w / half, integers)
    by_half = (g * each).sum(axis=(0, 1, 2), keepdims=True) / np.sqrt(w.size / 3 * (2**bits - 1))
    np.testing.assert_allclose(by_ratio, by_half / quantizer.start, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(quantizer.integers(w, host.variables_of), integers)
    assert quantizer.width(host.variables_of) == bits + 1


def test_seq_starts_where_the_error_is_least():
    w = np.random.default_rng(14).normal(size=(4000, 2)).astype(np.float32) * [1.0, 3.0]
    quantizer = SEQWeights.starting(2, w, np.ones((1, 2), np.float32))
    # The best step of four even values for a normal distribution (Max 1960, table 2: 0.9957).
    np.testing.assert_allclose(2 * quantizer.start[0] / w.std(axis=0), 0.9957, rtol=0.05)


def test_values_of_a_codebook_have_the_sum_of_the_gradients_of_their_weights():
    w, g = values(10)
    w = w.astype(np.float32)
    quantizer = CodebookWeights.starting(3, w, np.full((1, 1, 1, 3), 0.5, np.float32))
    host = Host(quantizer, SHAPE)
    moved = 0.1 * np.random.default_rng(11).normal(size=8)
    host.variables_of["moved"].assign(moved)
    kernel = tf.Variable(w)
    with tf.GradientTape() as tape:
        y = host(kernel)
    by_w, by_moved = tape.gradient(y, [kernel, host.variables_of["moved"]], tf.constant(g, tf.float32))
    unit = np.abs(w).max(axis=(0, 1, 2))
    pace = np.abs(quantizer.values).mean()
    table = rounded(127 * (quantizer.values + pace * moved)) / 127
    number = np.abs((w / unit)[..., None] - table).argmin(axis=-1)
    np.testing.assert_allclose(y, table[number] * unit, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(by_w, g.astype(np.float32))
    sums = np.array([(g * unit)[number == k].sum() for k in range(8)])
    # As with other learned parameters, in units of what moves one step: the same for all values here.
    np.testing.assert_allclose(by_moved, sums / pace, rtol=1e-3, atol=1e-4)
    integers = quantizer.integers(w, host.variables_of)
    np.testing.assert_allclose(integers * np.asarray(quantizer.scale(w, {})), y, rtol=1e-5, atol=1e-7)
    assert len(np.unique(integers)) == 8


@pytest.mark.parametrize("technique", WEIGHTS)
def test_weights_that_are_all_zero_stay_finite_and_zero_or_next_to_it(technique):
    zeros = np.zeros((5, 2), np.float32)
    start = np.full((1, 2), 0.3, np.float32)
    host = Host(weight_quantizer("layer", 2, zeros, start, Techniques(weights=technique)), (5, 2))
    kernel = tf.Variable(zeros)
    with tf.GradientTape() as tape:
        y = host(kernel)
    assert np.isfinite(tape.gradient(y, kernel)).all()
    assert (np.abs(y) <= 0.3).all()


@pytest.mark.parametrize("technique", WEIGHTS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_quantizer_survives_its_config(technique, bits):
    w = values(12)[0].astype(np.float32)
    made = weight_quantizer("layer", bits, w, np.full((1, 1, 1, 3), 0.4, np.float32), Techniques(weights=technique))
    again = type(made).from_config(made.get_config())
    first, second = Host(made, SHAPE), Host(again, SHAPE)
    np.testing.assert_array_equal(first(tf.constant(w)), second(tf.constant(w)))
