"""Fractional bits against the paper's formula, computed value by value in numpy."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfq_pipeline.annotate.quantizers.fractional import FractionalWeights
from tfq_pipeline.calibration.mse import row_ranges

WIDTHS = (2, 3, 4, 8)
W = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
START = np.array([[0.3, 0.35, 0.25]], np.float32)


class Host(tf_keras.layers.Layer):
    """A layer that owns a quantizer, as TFMOT's wrapper does."""

    def __init__(self, quantizer):
        super().__init__()
        self.quantizer = quantizer
        self.variables_of = quantizer.build(W.shape, "kernel", self)

    def call(self, x):
        return self.quantizer(x, True, self.variables_of)


def host(position=None, pace=1.0):
    made = Host(FractionalWeights.between(WIDTHS, 4, W, START, pace))
    if position is not None:
        made.variables_of["position"].assign(position / pace)
    return made


def steps(number):
    """Weights in steps of a width, its steps and its highest integer: the plan's scale at 4 bits, that of the least
    error elsewhere."""
    top = 2 ** (WIDTHS[number] - 1) - 1
    scale = START[0] if WIDTHS[number] == 4 else row_ranges(W.T, WIDTHS[number], symmetric=True)[1] / np.float32(top)
    return W / scale, scale, top


def grid(number):
    """Weights at a width, in numpy."""
    v, scale, top = steps(number)
    return np.sign(v) * np.floor(np.clip(np.abs(v), 0, top) + 0.5) * scale


def inside(number):
    v, _, top = steps(number)
    return np.abs(v) < top


def test_training_starts_at_the_planned_weights():
    np.testing.assert_allclose(host()(W), grid(2), atol=1e-6)


@pytest.mark.parametrize("pace", [1.0, 20.0])
@pytest.mark.parametrize("position", [0.0, 0.3, 1.0, 1.75, 2.5, 3.0])
def test_weights_lie_between_two_widths_and_the_gradient_is_their_difference(position, pace):
    made, g = host(position, pace), np.random.default_rng(1).normal(size=W.shape).astype(np.float32)
    kernel = tf.Variable(W)
    with tf.GradientTape() as tape:
        y = made(kernel)
    by_w, by_position = tape.gradient(y, [kernel, made.variables_of["position"]], tf.constant(g))
    low = min(int(position), 2)
    f = position - low
    np.testing.assert_allclose(y, (1 - f) * grid(low) + f * grid(low + 1), atol=1e-5)
    # What moves the variable by one moves the position by the pace.
    assert float(by_position) == pytest.approx((g * (grid(low + 1) - grid(low))).sum() / pace, rel=1e-3)
    np.testing.assert_allclose(by_w, g * ((1 - f) * inside(low) + f * inside(low + 1)), atol=1e-5)


def test_shares_are_those_of_two_neighbours():
    made = host(1.25)
    np.testing.assert_allclose(made.quantizer.shares(made.variables_of), [0, 0.75, 0.25, 0], atol=1e-6)


def test_steps_of_both_neighbours_learn_in_proportion_to_their_share():
    made, alone = host(1.25), host(1.0)

    def by_step(of):
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(of(tf.constant(W)) ** 2)
        return tape.gradient(y, of.variables_of["step"]).numpy()

    mixed, single = by_step(made), by_step(alone)
    assert np.abs(mixed[0]).max() == np.abs(mixed[3]).max() == 0.0
    assert np.abs(mixed[1]).min() > 0.0 < np.abs(mixed[2]).min()
    assert np.abs(single[1]).min() > 0.0 == np.abs(single[2]).max()


def test_positions_stay_among_the_widths():
    made = host(2.0, pace=10.0)
    optimizer = tf_keras.optimizers.SGD(1.0)
    for direction, end in ((-1e3, 3.0), (1e3, 0.0)):
        optimizer.apply_gradients([(tf.constant(direction), made.variables_of["position"])])
        assert float(made.quantizer.position(made.variables_of)) == pytest.approx(end)


def test_a_width_that_is_none_of_the_choice_starts_at_the_nearest():
    made = Host(FractionalWeights.between((2, 3), 8, W, START / 20, 1.0))
    np.testing.assert_allclose(made(W), grid(1), atol=1e-6)
    assert made.quantizer.width(made.variables_of) == 3


def test_a_quantizer_survives_its_config():
    made = host(1.0)
    again = FractionalWeights.from_config(made.quantizer.get_config())
    assert (again.widths, again.bits, again.pace) == (WIDTHS, 4, 1.0)
    np.testing.assert_array_equal(again.starts, made.quantizer.starts)
