"""What batch norm knows: clipped normals against sampling, absorption against the function, correction against data."""

from __future__ import annotations

import numpy as np
import pytest

from tests.nets import images, mixed_net
from tfq_pipeline.data import Batch, Data
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Normal, Weights
from tfq_pipeline.graph.tflite_graph import TfliteGraph
from tfq_pipeline.lowering.lower import lower_float
from tfq_pipeline.passes.analytic_bias_correction import analytic_bias_correction
from tfq_pipeline.passes.expectation import clipped_normal, expectations
from tfq_pipeline.passes.high_bias_absorption import high_bias_absorption
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize


@pytest.mark.parametrize(("low", "high"), [(0.0, np.inf), (0.0, 6.0), (-1.0, 1.0), (-np.inf, np.inf)])
def test_a_clipped_normal_is_what_sampling_gives(low, high):
    normal = Normal(np.array([-2.0, 0.0, 0.7, 5.5, 3.0]), np.array([1.0, 2.0, 0.1, 1.0, 0.0]))
    values = np.random.default_rng(0).normal(size=(400_000, 1)) * normal.deviation + normal.mean
    clipped = np.clip(values, low, high)
    found = clipped_normal(normal, low, high)
    np.testing.assert_allclose(found.mean, clipped.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(found.deviation, clipped.std(axis=0), atol=0.01)


def normal_net(gamma: float, beta: float, limit: float | None = None):
    """Two layers behind batch norms that know what normal inputs become: [2, 2, 6] to 5 values."""
    import tf_keras

    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(1)
    image = tf_keras.Input((2, 2, 6), name="image")
    first = layers.Conv2D(8, 1, use_bias=False, name="first")
    norm = layers.BatchNormalization(epsilon=1e-6, name="norm")
    x = layers.ReLU(limit)(norm(first(image)))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = tf_keras.Model(image, layers.Dense(5, name="last")(x))
    variance = (first.get_weights()[0].reshape(6, 8) ** 2).sum(axis=0)
    norm.set_weights([np.full(8, gamma), np.linspace(beta, beta + 1, 8), np.zeros(8), variance])
    return KerasGraph.from_model(model).fold_batch_norm()


def normal_images(count: int = 4000) -> Data:
    x = np.random.default_rng(4).normal(size=(count, 2, 2, 6)).astype(np.float32)
    return Data("normal", lambda: iter([Batch((x,))]), count)


def captured(graph, name, data):
    return np.concatenate([values[name] for values in graph.capture([name], data)])


@pytest.mark.parametrize("limit", [None, 6.0])
def test_expectations_are_the_means_over_data_that_fits_the_statistics(limit):
    graph = normal_net(gamma=2.0, beta=-1.0, limit=limit)
    found = expectations(graph)
    assert set(found) == {"first", "pool", "last"}
    for name, normal in found.items():
        values = captured(graph, name, normal_images())
        np.testing.assert_allclose(normal.mean, values.reshape(-1, values.shape[-1]).mean(axis=0), atol=0.05)


def test_sums_and_reshapes_carry_expectations_on():
    graph = KerasGraph.from_model(mixed_net()).fold_batch_norm()
    found = expectations(graph)
    low = found["stem"].mean + next(op for op in graph.linear_ops() if op.name == "project").normal.mean
    assert (found["residual_relu"].mean >= np.maximum(low, 0) - 1e-9).all()
    assert "join" not in found
    measured = expectations(graph, images())
    assert {"image", "join", "flat", "hidden"} <= set(measured)
    np.testing.assert_allclose(
        measured["image"].mean, captured(graph, "image", images()).mean(axis=(0, 1, 2)), rtol=1e-4
    )


def bias_net(padding: str, kernel: int, activation: str = "relu"):
    import tf_keras

    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(2)
    image = tf_keras.Input((5, 5, 3), name="image")
    norm = layers.BatchNormalization(name="norm")
    x = layers.Activation(activation)(norm(layers.Conv2D(4, 1, use_bias=False, name="first")(image)))
    x = layers.Conv2D(2, kernel, padding=padding, name="second")(x)
    model = tf_keras.Model(image, x)
    norm.set_weights([np.full(4, 0.5), np.array([4.0, 1.6, 1.0, -3.0]), np.zeros(4), np.full(4, 9.0)])
    return KerasGraph.from_model(model).fold_batch_norm()


@pytest.mark.parametrize("tflite", [False, True])
def test_what_is_absorbed_leaves_the_function_and_shrinks_the_range(tflite):
    graph = bias_net("valid", 3)
    if tflite:
        graph = TfliteGraph.read(lower_float(graph))
    made = high_bias_absorption(graph, images(size=5))
    ((_, amount),) = made.amounts.items()
    first = graph.linear_ops()[0].output
    if not tflite:
        np.testing.assert_allclose(amount, [2.5, 0.1, 0.0, 0.0], atol=1e-3)
    else:
        lowest = captured(graph, first, images(size=5)).min(axis=(0, 1, 2))
        np.testing.assert_allclose(amount, lowest, rtol=1e-6)
    before, after = (captured(g, first, images(size=5)) for g in (graph, made.graph))
    np.testing.assert_allclose(after, before - amount, atol=1e-5)
    for batch in images(size=5):
        np.testing.assert_allclose(made.graph.run(batch.inputs)[0], graph.run(batch.inputs)[0], atol=1e-4)
    if not tflite:
        np.testing.assert_allclose(made.graph.linear_ops()[0].normal.mean, [1.5, 1.5, 1.0, -3.0], atol=1e-3)


def test_a_layer_that_pads_absorbs_nothing():
    assert high_bias_absorption(bias_net("same", 3), images(size=5)).amounts == {}
    assert high_bias_absorption(bias_net("same", 1), images(size=5)).amounts != {}


def test_a_channel_that_reaches_six_keeps_its_bias():
    made = high_bias_absorption(bias_net("valid", 3, "relu6"), images(size=5))
    (amount,) = made.amounts.values()
    np.testing.assert_allclose(amount, [2.5, 0.1, 0.0, 0.0], atol=1e-3)
    graph = bias_net("valid", 3, "relu6")
    first = graph.linear_ops()[0]
    shifted = graph.with_weights({"first": Weights(first.kernel, first.bias + 2, first.normal.affine(1.0, 2.0))})
    (amount,) = high_bias_absorption(shifted, images(size=5)).amounts.values()
    np.testing.assert_allclose(amount, [0.0, 2.1, 1.5, 0.0], atol=1e-3)


@pytest.mark.parametrize("limit", [None, 6.0])
def test_the_analytic_correction_keeps_the_mean_of_data_that_fits_the_statistics(limit):
    graph = normal_net(gamma=1.5, beta=0.0, limit=limit)
    request = LayerRequest(Request(2, True, "channel"), None)
    plan = quantize(graph, None, lambda *_: request)
    made = analytic_bias_correction(graph, plan)
    assert (made.layers, made.unknown) == (("last",), ("first",))
    data = normal_images()
    ops = {op.name: op for op in made.graph.linear_ops()}
    x = captured(graph, "pool", data).astype(np.float64)
    wanted = captured(graph, "last", data).mean(axis=0)
    got = (x @ plan.weights["last"].represented(ops["last"].kernel).T + ops["last"].bias).mean(axis=0)
    uncorrected = got - ops["last"].bias
    assert np.abs(uncorrected - wanted).max() > 0.2
    np.testing.assert_allclose(got, wanted, atol=0.02)


def test_with_samples_a_tflite_is_corrected_in_every_layer():
    keras = normal_net(gamma=1.5, beta=0.0)
    graph = TfliteGraph.read(lower_float(keras))
    plan = quantize(graph, None, lambda *_: LayerRequest(Request(2, True, "channel"), None))
    made = analytic_bias_correction(graph, plan, normal_images(500))
    assert len(made.layers) == 2
    assert made.unknown == ()
    assert len(analytic_bias_correction(graph, plan).unknown) == 2
