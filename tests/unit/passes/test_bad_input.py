"""Weights and data at the edge: every family of recipes gives a finite result near the float model's, or one line that
names the layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import tf_keras

from tests.unit.lowering.test_lower import tflite
from tfq_pipeline.data import Batch, Data
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Graph, Weights
from tfq_pipeline.lowering.lower import lower
from tfq_pipeline.passes.adaround import adaround
from tfq_pipeline.passes.awq import awq
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.cross_layer_equalization import cross_layer_equalization
from tfq_pipeline.passes.gptq import gptq
from tfq_pipeline.passes.quantease import quantease
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.passes.reconstruct import reconstruct
from tfq_pipeline.passes.smooth_quant import smooth_quant
from tfq_pipeline.plan import Plan
from tfq_pipeline.tflite.interpreter import open_model

layers = tf_keras.layers
X = np.random.default_rng(0).uniform(0, 1, (24, 8, 8, 2)).astype(np.float32)


def model() -> tf_keras.Model:
    tf_keras.utils.set_random_seed(3)
    random = tf_keras.initializers.RandomNormal(stddev=0.05, seed=3)
    image = tf_keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu6", bias_initializer=random, name="stem")(image)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu", bias_initializer=random, name="depthwise")(x)
    y = layers.Conv2D(8, 1, bias_initializer=random, name="project")(y)
    x = layers.Add(name="residual")([x, y])
    x = layers.Flatten(name="flat")(layers.AveragePooling2D(4, name="pool")(x))
    x = layers.Dense(32, "relu", bias_initializer=random, name="hidden")(x)
    return tf_keras.Model(image, layers.Dense(4, bias_initializer=random, name="logits")(x))


@pytest.fixture(scope="module")
def graph() -> Graph:
    return tflite(model())


def layer(graph: Graph, op: str, position: int = 0) -> str:
    return [o.name for o in graph.linear_ops() if o.op == op][position]


def changed(op: str, position: int, change: Callable[[np.ndarray, np.ndarray], None]) -> Callable[[Graph], Graph]:
    """Changes weights and bias of a layer in place."""

    def of(graph: Graph) -> Graph:
        found = next(o for o in graph.linear_ops() if o.name == layer(graph, op, position))
        assert found.bias is not None
        kernel, bias = found.kernel.copy(), found.bias.copy()
        change(kernel, bias)
        return graph.with_weights({found.name: Weights(kernel, bias)})

    return of


def put(at: tuple[int, ...], value: float) -> Callable[[np.ndarray, np.ndarray], None]:
    return lambda kernel, bias: kernel.__setitem__(at, value)


def scaled(weights: float, biases: float, channel: object = slice(None)) -> Callable[[np.ndarray, np.ndarray], None]:
    def change(kernel: np.ndarray, bias: np.ndarray) -> None:
        kernel[channel] *= weights
        bias[channel] *= biases

    return change


MODELS: dict[str, Callable[[Graph], Graph]] = {
    "a dead channel": changed("CONV_2D", 0, scaled(0, 0, 1)),
    "a dead layer": changed("CONV_2D", 1, scaled(0, 0)),
    "a layer of biases alone": changed("CONV_2D", 1, scaled(0, 1e-3)),
    "a dead depthwise": changed("DEPTHWISE_CONV_2D", 0, scaled(0, 0)),
    "a dead end": changed("FULLY_CONNECTED", 1, scaled(0, 0)),
    "a single huge weight": changed("CONV_2D", 1, put((1, 0, 0, 1), 1e6)),
    "a weight near the largest float": changed("FULLY_CONNECTED", 0, put((1, 1), 1e30)),
    "tiny weights": changed("CONV_2D", 1, scaled(1e-30, 1)),
    "denormal weights": changed("CONV_2D", 1, scaled(1e-42, 1)),
    "a huge bias": changed("CONV_2D", 1, lambda kernel, bias: bias.__setitem__(1, 1e20)),
    "a range that collapses": changed("CONV_2D", 0, lambda kernel, bias: bias.__isub__(100.0)),
    "a negligible output": changed("FULLY_CONNECTED", 0, lambda kernel, bias: bias.__isub__(2.0)),
}

DATA: dict[str, np.ndarray] = {
    "one sample": X[:1],
    "zeros": np.zeros_like(X),
    "a constant": np.full_like(X, 5.0),
    "saturated": np.where(X > 0.5, 1.0, 0.0).astype(np.float32),
    "next to nothing": X * np.float32(1e-40),
}


def stream(x: np.ndarray) -> Data:
    return Data("samples", lambda: iter([Batch((x,))] if len(x) else []), len(x))


def planned(graph: Graph, x: np.ndarray, bits: int, range: str = "minmax", method: str = "minmax") -> Plan:
    asked = LayerRequest(Request(bits, True, "channel", range=range), Request(8, False))
    return quantize(graph, calibrate(graph, stream(x), method, len(x)), lambda *_: asked)


def static(graph: Graph, x: np.ndarray, bits: int, range: str = "minmax", method: str = "minmax") -> bytes:
    return lower(graph, planned(graph, x, bits, range, method), "int8", "int8", {})


def sixteen(graph: Graph, x: np.ndarray) -> bytes:
    asked = LayerRequest(Request(8, True, "channel"), Request(16, True))
    plan = quantize(graph, calibrate(graph, stream(x), "minmax", len(x)), lambda *_: asked)
    return lower(graph, plan, "int16", "int16", {})


def floating(graph: Graph, x: np.ndarray, asked: Request) -> bytes:
    return lower(graph, quantize(graph, None, lambda *_: LayerRequest(asked, None)), "float32", "float32", {})


def reconstructed(graph: Graph, x: np.ndarray, technique: object) -> bytes:
    made = reconstruct(graph, planned(graph, x, 4), stream(x), technique)
    return lower(made.graph, made.plan, "int8", "int8", {})


def scaled_channels(graph: Graph, x: np.ndarray, technique: Callable[..., object]) -> bytes:
    return static(technique(graph, stream(x)).graph, x, 8)


# By the name of a family: the file, and how far its outputs may lie from the float model's, by their largest.
FAMILIES: dict[str, tuple[Callable[[Graph, np.ndarray], bytes], float]] = {
    "static_wi8_ai8": (partial(static, bits=8), 0.1),
    "static_wi8_ai8 per cent": (partial(static, bits=8, method="percentile"), 0.15),
    "static_wi4_ai8 entropy": (partial(static, bits=4, range="entropy", method="entropy"), 0.5),
    "static_wi4_ai8 mse": (partial(static, bits=4, range="mse", method="mse"), 0.5),
    "static_wi4_ai8 moving average": (partial(static, bits=4, range="percentile", method="moving_average"), 0.5),
    "static_wi8_ai16": (sixteen, 0.05),
    "dynamic_wi8_afp32": (partial(floating, asked=Request(8, True, "channel")), 0.1),
    "dynamic_wi4b32_afp32": (partial(floating, asked=Request(4, True, "group", 32)), 0.5),
    "dynamic_wi4b32_afp32 with zero points": (partial(floating, asked=Request(4, False, "group", 32)), 0.5),
    "weight_only_wi4_afp32 with zero points": (
        partial(floating, asked=Request(4, False, "channel", decoded=True)),
        0.5,
    ),
    "weight_only_wi4_afp32": (partial(floating, asked=Request(4, True, "channel", decoded=True)), 0.5),
    "equalization": (partial(scaled_channels, technique=cross_layer_equalization), 0.15),
    "SmoothQuant": (partial(scaled_channels, technique=smooth_quant), 0.15),
    "AWQ": (partial(scaled_channels, technique=partial(awq, weights=Request(4, True, "channel"))), 0.15),
    "bias correction": (partial(reconstructed, technique=None), 0.5),
    "GPTQ": (partial(reconstructed, technique=lambda t, s, a, low, high, start: gptq(t, s, a, low, high)), 0.5),
    "QuantEase": (partial(reconstructed, technique=quantease), 0.5),
    "AdaRound": (
        partial(reconstructed, technique=lambda t, s, a, low, high, start: adaround(t, s, a, low, high, 50)),
        0.5,
    ),
}


def assert_near(made: bytes, graph: Graph, x: np.ndarray, share: float) -> None:
    wanted = graph.run([x])[0]
    for xnnpack in (True, False):
        got = open_model(made, default_delegates=xnnpack).run([x])[0]
        assert np.isfinite(got).all()
        assert np.abs(got - wanted).max() <= share * np.abs(wanted).max() + 1e-6


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", MODELS)
def test_weights_at_the_edge(graph: Graph, family: str, name: str) -> None:
    make, share = FAMILIES[family]
    bad = MODELS[name](graph)
    assert_near(make(bad, X), bad, X, share)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", DATA)
def test_data_at_the_edge(graph: Graph, family: str, name: str) -> None:
    make, share = FAMILIES[family]
    assert_near(make(graph, DATA[name]), graph, DATA[name], share)


STATIC = [name for name in FAMILIES if not name.startswith(("dynamic", "weight_only"))]


@pytest.mark.parametrize("family", STATIC)
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_data_that_overflow_are_named(graph: Graph, family: str, value: float) -> None:
    x = X.copy()
    x[3, 1, 1, 0] = value
    with pytest.raises(BadInput, match=r"layer '|samples: ") as caught:
        FAMILIES[family][0](graph, x)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", STATIC)
def test_no_samples_are_named(graph: Graph, family: str) -> None:
    with pytest.raises(BadInput, match="calibration data samples: found no samples"):
        FAMILIES[family][0](graph, X[:0])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(graph: Graph, family: str, value: float) -> None:
    bad = changed("CONV_2D", 1, put((0, 0, 0, 0), value))(graph)
    with pytest.raises(BadInput, match=f"layer '{layer(graph, 'CONV_2D', 1)}'") as caught:
        FAMILIES[family][0](bad, X)
    assert "\n" not in str(caught.value)


def normalized(variance: float, gamma: float) -> KerasGraph:
    image = tf_keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(4, 3, name="stem")(image)
    x = layers.BatchNormalization(name="norm", epsilon=1e-3)(x)
    made = tf_keras.Model(image, layers.Dense(3, name="logits")(layers.Flatten()(layers.ReLU(6.0)(x))))
    norm = made.get_layer("norm")
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    norm.set_weights([gamma * ones, zeros + 0.5, zeros, np.array([variance, 1, 1, 1], np.float32)])
    return KerasGraph.from_model(made)


@pytest.mark.parametrize(("variance", "gamma"), [(0.0, 1.0), (0.0, 0.0), (1e-38, 1.0), (1e30, 1.0)])
@pytest.mark.parametrize("family", ["static_wi8_ai8", "static_wi8_ai16", "dynamic_wi8_afp32", "GPTQ"])
def test_batch_norm_at_the_edge(variance: float, gamma: float, family: str) -> None:
    make, share = FAMILIES[family]
    graph = normalized(variance, gamma)
    assert_near(make(graph.fold_batch_norm(), X), graph, X, share)


def test_a_negative_variance_is_named() -> None:
    with pytest.raises(BadInput, match=r"layer 'norm' \(BatchNormalization\): .*variance"):
        normalized(-1.0, 1.0).fold_batch_norm()
