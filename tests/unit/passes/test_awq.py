"""AWQ against a search written out in numpy on the captured inputs, on both backends."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras

from tfq_pipeline.data import Batch, Data
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.tflite_graph import TfliteGraph
from tfq_pipeline.lowering.lower import lower_float
from tfq_pipeline.passes.awq import awq
from tfq_pipeline.passes.quantize import Request

BACKENDS = {
    "keras": KerasGraph.from_model,
    "tflite": lambda model: TfliteGraph.read(lower_float(KerasGraph.from_model(model))),
}
GRID = 8


def net():
    """A 1x1 convolution into another, that into a dense layer; some channels between them are large."""
    tf_keras.utils.set_random_seed(7)
    layers = tf_keras.layers
    image = tf_keras.Input((3, 3, 6), name="image")
    x = layers.Conv2D(32, 1, activation="relu", name="first")(image)
    x = layers.Conv2D(12, 1, activation="relu6", name="second")(x)
    x = layers.Flatten()(x)
    model = tf_keras.Model(image, layers.Dense(4, name="last")(x))
    kernel, bias = model.get_layer("first").get_weights()
    kernel[..., :3] *= 20.0
    model.get_layer("first").set_weights([kernel, bias])
    return model


def data() -> Data:
    x = np.random.default_rng(0).normal(size=(64, 3, 3, 6)).astype(np.float32)
    return Data("normal", lambda: iter([Batch((x[:40],)), Batch((x[40:],))]), 64)


def rounded(w, group):
    """[out, in] at 4 bits, one scale for each `group` inputs of a row."""
    parts = w.reshape(w.shape[0], -1, group)
    scale = np.abs(parts).max(axis=2, keepdims=True) / 7
    return (np.clip(np.round(parts / scale), -7, 7) * scale).reshape(w.shape)


def searched(x, w, group):
    """(error, alpha) of the best exponent: the layer's output on the samples, nothing else."""
    magnitude = np.abs(x).mean(axis=0)
    found = []
    for alpha in np.linspace(0, 1, GRID + 1):
        s = magnitude**alpha
        s = s / np.sqrt(s.max() * s.min())
        found.append((np.mean((x / s @ rounded(w * s, group).T - x @ w.T) ** 2) / np.mean((x @ w.T) ** 2), alpha))
    return found[0][0], *min(found)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("request_", "group"), [(Request(4, True, "channel"), 32), (Request(4, True, "group", group_size=16), 16)]
)
def test_the_exponent_is_the_one_that_a_search_over_outputs_finds(backend, request_, group):
    graph = BACKENDS[backend](net())
    made = awq(graph, data(), request_, grid=GRID)
    first, second, _ = graph.linear_ops()
    x = np.concatenate([v[first.output] for v in graph.capture([first.output], data())]).reshape(-1, 32)
    before, error, alpha = searched(x.astype(np.float64), second.kernel.reshape(12, 32).astype(np.float64), group)
    pair = (first.name, second.name)
    assert made.alphas[pair] == alpha
    assert 0 < alpha < 1
    np.testing.assert_allclose(made.errors[pair], (before, error), rtol=2e-2)
    assert error < 0.8 * before
    magnitude = np.abs(x).mean(axis=0)
    s = magnitude**alpha / np.sqrt((magnitude**alpha).max() * (magnitude**alpha).min())
    after = {op.name: op for op in made.graph.linear_ops()}
    np.testing.assert_allclose(after[second.name].kernel, second.kernel * s, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_function_stays(backend):
    graph = BACKENDS[backend](net())
    made = awq(graph, data(), Request(4, True, "channel"))
    for batch in data():
        for a, b in zip(graph.run(batch.inputs), made.graph.run(batch.inputs), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)


def test_channels_that_are_always_zero_stay_as_they_are():
    model = net()
    kernel, bias = model.get_layer("first").get_weights()
    kernel[..., 5] = 0.0
    model.get_layer("first").set_weights([kernel, bias])
    graph = KerasGraph.from_model(model)
    made = awq(graph, data(), Request(4, True, "channel"))
    before, after = (next(op for op in g.linear_ops() if op.name == "second") for g in (graph, made.graph))
    np.testing.assert_array_equal(after.kernel[..., 5], before.kernel[..., 5])
    assert np.isfinite(after.kernel).all()
