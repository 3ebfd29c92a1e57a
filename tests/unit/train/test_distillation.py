"""Losses against the papers' formulas in numpy, and what a teacher changes."""

import numpy as np
import pytest
import tensorflow as tf

from tests.nets import images, mixed_net
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.train.distillation import Distillation, feature_loss, lesson, logits_loss
from tfq_pipeline.train.qat import Training, qat


@pytest.fixture(scope="module")
def start():
    graph = KerasGraph.from_model(mixed_net()).fold_batch_norm()
    data = images(160, batch=32)
    ranges = calibrate(graph, data, "minmax", 160)
    return graph, quantize(graph, ranges, lambda *_: LayerRequest(Request(3, True), Request(8, False))), data


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("binary", [False, True])
def test_logits_are_compared_as_distributions_at_a_temperature(binary):
    t, s = np.random.default_rng(0).normal(size=(2, 6, 1 if binary else 5)) * 3

    def distribution(x):
        if not binary:
            return softmax(x / 4)
        p = 1 / (1 + np.exp(-x / 4))
        return np.concatenate([p, 1 - p], axis=1)

    p, q = distribution(t), distribution(s)
    want = 16 * (p * np.log(p / q)).sum(axis=1)
    got = logits_loss(True, binary, 4.0)(tf.constant(t), tf.constant(s))
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_features_are_compared_relative_to_the_teachers_variance():
    t, s = np.random.default_rng(1).normal(size=(2, 4, 3, 3, 2))
    want = ((t - s) ** 2).reshape(4, -1).mean(axis=1) / t.var()
    np.testing.assert_allclose(feature_loss(tf.constant(t), tf.constant(s)), want, rtol=1e-6)


def test_the_teacher_says_what_the_float_model_computes(start):
    graph, _, data = start
    inputs = next(iter(data)).inputs
    said = lesson(graph, ("stem", "hidden"))(inputs)
    captured = next(graph.capture(["logits", "stem", "hidden"], data))
    np.testing.assert_allclose(said["teacher"], captured["logits"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(said["feature_stem"], captured["stem"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(said["feature_hidden"], captured["hidden"], rtol=1e-5, atol=1e-5)


def test_a_taught_student_comes_closer_to_its_teacher(start):
    graph, plan, data = start
    options = {"epochs": 6, "batch_size": 32, "learning_rate": 3e-3, "momentum": 0.9}
    taught = qat(graph, plan, data, Training(**options, distillation=Distillation(1.0, 2.0, ("hidden",), 0.5)))
    assert {"teacher_loss", "feature_hidden_loss", "accuracy"} <= set(taught.history)
    for name in ("teacher_loss", "feature_hidden_loss"):
        assert taught.history[name][-1] < 0.7 * taught.history[name][0]
    alone = qat(graph, plan, data, Training(**options))
    assert set(alone.history) == {"loss", "accuracy"}
    wanted = next(graph.capture(["logits"], data))["logits"]
    distance = {
        name: np.abs(next(t.graph.capture(["logits"], data))["logits"] - wanted).mean()
        for name, t in (("taught", taught), ("alone", alone))
    }
    assert distance["taught"] < distance["alone"]


def test_features_of_no_layer_are_refused(start):
    graph, plan, data = start
    with pytest.raises(BadInput, match="features: 'nowhere': no layer of the folded model"):
        qat(graph, plan, data, Training(1, 32, 1e-3, distillation=Distillation(features=("nowhere",))))
