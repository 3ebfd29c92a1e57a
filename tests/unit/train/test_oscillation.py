"""Weights that oscillate: what is counted, the loss and its gradient against numpy, and what becomes of frozen ones."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.nets import images
from tests.unit.train.stopping import resumed_and_straight
from tfq_pipeline.annotate.quantizers.lsq import LSQWeights
from tfq_pipeline.annotate.quantizers.min_max import MinMaxWeights
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.lowering.lower import lower
from tfq_pipeline.lowering.reference import fake_quantized
from tfq_pipeline.lowering.verify import verify
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.plan import compare
from tfq_pipeline.train.oscillation import Oscillation, SteadyWeights
from tfq_pipeline.train.qat import Training, qat

SCALES = np.array([[0.5, 0.25]], np.float32)


def away(x):
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


def followed(kernel, options, steps=None, bits=4):
    """A companion of one kernel [inputs, 2] with learned steps, and its variable."""
    variable = tf.Variable(np.asarray(kernel, np.float32))
    quantizer = LSQWeights.starting(bits, variable.numpy(), SCALES)
    ratio = tf.Variable(np.ones(SCALES.shape, np.float32))
    return SteadyWeights([(variable, quantizer, {"step": ratio})], options, steps, {}), variable, ratio


def test_a_change_against_the_one_before_is_an_oscillation():
    made, kernel, _ = followed([[0.0, 0.0]], Oscillation(damping=1.0, rate=0.1))
    found = []
    # Integers of the first weight: up, nothing, down, up, up, down; of the second: none ever changes.
    for integer in (1, 1, 0, 1, 2, 1):
        kernel.assign([[0.5 * integer, 0.02 * integer]])
        made.on_train_batch_end(0)
        found.append(made.frequency[0].numpy()[0])
    turned, f, want = (0, 0, 1, 1, 0, 1), 0.0, []
    for o in turned:
        f = 0.1 * o + 0.9 * f
        want.append(f)
    np.testing.assert_allclose(np.array(found)[:, 0], want, rtol=1e-6)
    assert not np.array(found)[:, 1].any()


def test_frequencies_and_frozen_integers_are_those_of_the_paper_s_algorithm():
    rng = np.random.default_rng(0)
    steps, rate, start, end = 60, 0.05, 0.3, 0.1
    options = Oscillation(freeze=end, freeze_start=start, rate=rate)
    # Some hardly move.
    reach = np.repeat(np.geomspace(0.01, 0.5, 6), 2).reshape(6, 2)
    first = rng.normal(0, reach).astype(np.float32)
    made, kernel, ratio = followed(first, options, steps)
    before, direction, f = np.clip(away(first / SCALES), -7, 7), np.zeros((6, 2)), np.zeros((6, 2))
    average, held = before.copy(), {}
    for t in range(1, steps + 1):
        moved = rng.normal(0, reach).astype(np.float32)
        widths = rng.uniform(0.8, 1.2, SCALES.shape).astype(np.float32)
        kernel.assign(moved)
        ratio.assign(widths)
        made.on_train_batch_end(0)
        scale = widths * SCALES
        threshold = end + (start - end) * 0.5 * (1 + np.cos(np.pi * t / steps))
        want = moved.copy()
        for i in np.ndindex(6, 2):
            s = scale[0, i[1]]
            if i not in held:
                now = np.clip(away(moved[i] / s), -7, 7)
                change = np.sign(now - before[i])
                f[i] = rate * (change * direction[i] < 0) + (1 - rate) * f[i]
                average[i] = rate * now + (1 - rate) * average[i]
                direction[i] = change or direction[i]
                before[i] = now
                if f[i] > threshold:
                    held[i] = away(average[i])
            if i in held:
                want[i] = held[i] * s
        np.testing.assert_allclose(kernel.numpy(), want, rtol=1e-6, atol=1e-7)
    assert 0 < len(held) < 12
    np.testing.assert_array_equal(np.argwhere(made.frozen[0].numpy()), sorted(held))
    made.on_epoch_end(0)
    assert made.log["frozen"] == [round(len(held) / 12, 6)]


@pytest.mark.parametrize("kind", [LSQWeights, MinMaxWeights])
@pytest.mark.parametrize("done", [0, 5, 10])
def test_damping_and_its_gradient(kind, done):
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1.0, (9, 2)).astype(np.float32)
    # A scale that clips a few weights.
    start = (np.abs(values).max(axis=0, keepdims=True) * 0.7 / 7).astype(np.float32)
    kernel, ratio = tf.Variable(values), tf.Variable(np.ones(start.shape, np.float32))
    made = SteadyWeights([(kernel, kind.starting(4, values, start), {"step": ratio})], Oscillation(0.3), 10, {})
    made.steps.assign(done)
    with tf.GradientTape() as tape:
        loss = made.loss()
    weight = 0.3 * 0.5 * (1 - np.cos(np.pi * done / 10))
    integers = np.clip(away(values / start), -7, 7)
    inside = np.abs(values) <= 7 * start
    distance = np.clip(values, -7 * start, 7 * start) - integers * start
    assert not inside.all()
    np.testing.assert_allclose(loss, weight * (distance.astype(np.float64) ** 2).sum(), rtol=1e-5, atol=1e-8)
    by_kernel, by_step = tape.gradient(loss, [kernel, ratio])
    np.testing.assert_allclose(by_kernel, np.where(inside, 2 * weight * distance, 0), rtol=1e-4, atol=1e-6)
    assert by_step is None


@pytest.fixture(scope="module")
def start():
    image = tf_keras.Input((6, 6, 3), name="image")
    tf_keras.utils.set_random_seed(3)
    x = tf_keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="conv")(image)
    x = tf_keras.layers.Dense(5, name="logits")(tf_keras.layers.Flatten(name="flat")(x))
    graph = KerasGraph.from_model(tf_keras.Model(image, x, name="small"))
    data = images(192, size=6, batch=64)
    asked = LayerRequest(Request(3, True, "channel"), Request(8, False))
    return graph, quantize(graph, calibrate(graph, data, "minmax", 192), lambda *_: asked), data


@pytest.mark.parametrize("weights", ["min_max", "lsq"])
def test_frozen_weights_end_at_their_integers_in_a_file_that_equals_the_model(start, weights):
    graph, plan, data = start
    calm = Oscillation(damping=1e-3, freeze=0.03, freeze_start=0.1, rate=0.05)
    trained = qat(graph, plan, data, Training(12, 16, 1e-2, weights=weights, activations="lsq", oscillation=calm))
    assert trained.history["loss"][-1] < 0.8 * trained.history["loss"][0]
    share = trained.history["frozen"]
    assert len(share) == 12
    assert 0.0 < share[-1] < 0.9
    assert (np.diff(share) >= 0).all()
    on_grid = sum(
        np.isclose(planned.represented(op.kernel), op.kernel, rtol=1e-5, atol=0).sum()
        for op in trained.graph.linear_ops()
        for planned in [trained.plan.weights[op.name]]
    )
    assert on_grid >= share[-1] * sum(op.kernel.size for op in graph.linear_ops()) - 1
    file = lower(trained.graph, trained.plan, "int8", "int8", {})
    reference = fake_quantized(trained.graph, trained.plan)
    result = verify(file, trained.graph, trained.plan, reference, images(100, size=6, seed=5), require_integer=True)
    assert result.argmax_agreement >= 0.97


def test_a_run_that_was_stopped_goes_on_with_what_it_counted(start, tmp_path):
    graph, plan, data = start
    calm = Oscillation(damping=1e-3, freeze=0.05, rate=0.05)
    options = Training(3, 32, 1e-2, weights="lsq", oscillation=calm)

    resumed, straight = resumed_and_straight(partial(qat, graph, plan, data, options), 2 * 6 + 3, tmp_path)
    assert resumed.history == straight.history
    assert compare(resumed.plan, straight.plan) == ()
    for a, b in zip(resumed.graph.linear_ops(), straight.graph.linear_ops(), strict=True):
        np.testing.assert_array_equal(a.kernel, b.kernel)
