"""Weights and data at the edge: every family of recipes gives a finite result near the float model's, or one line that
names the layer; and at 8 and 4 bits, of both backends, every scale is what the values seen ask for and the file gives
what the plan says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import tf_keras

from tests.unit.lowering.test_lower import BACKENDS
from tfq_pipeline.data import Batch, Data
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Graph, Weights
from tfq_pipeline.graph.tflite_graph import TfliteGraph
from tfq_pipeline.lowering.convert import float_graph
from tfq_pipeline.lowering.lower import lower
from tfq_pipeline.lowering.reference import fake_quantized
from tfq_pipeline.lowering.steady import settled
from tfq_pipeline.lowering.verify import Comparison, longest_path
from tfq_pipeline.numerics.affine import fake_quantize
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
from tfq_pipeline.tflite import flatbuffer as fb
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
def graphs() -> dict[str, Graph]:
    return {name: backend(model()) for name, backend in BACKENDS.items()}


@pytest.fixture(scope="module")
def converted(graphs: dict[str, Graph]) -> TfliteGraph:
    """A conversion of the Keras graph, which serves all weights."""
    return float_graph(graphs["keras"])


@pytest.fixture(scope="module")
def graph(graphs: dict[str, Graph]) -> Graph:
    return graphs["tflite"]


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


def planned(
    graph: Graph, x: np.ndarray, bits: int, range: str = "minmax", method: str = "minmax", activations: int = 8
) -> Plan:
    asked = LayerRequest(Request(bits, True, "channel", range=range), Request(activations, False))
    return quantize(graph, calibrate(graph, stream(x), method, len(x)), lambda *_: asked)


def static(graph: Graph, x: np.ndarray, bits: int, range: str = "minmax", method: str = "minmax") -> bytes:
    return lower(graph, planned(graph, x, bits, range, method), "int8", "int8", {})


def four(graph: Graph, x: np.ndarray) -> bytes:
    return lower(graph, settled(graph, planned(graph, x, 4, activations=4)), "int8", "int8", {})


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
    "static_wi4_ai4": (four, 1.0),
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


EDGES = ["nothing", *MODELS, *DATA]


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", EDGES)
def test_scales_are_those_of_the_values_seen_and_the_file_has_them(
    graphs: dict[str, Graph], converted: TfliteGraph, backend: str, bits: int, name: str
) -> None:
    graph = MODELS[name](graphs[backend]) if name in MODELS else graphs[backend]
    x = DATA.get(name, X)
    plan = planned(graph, x, bits, activations=bits)
    assert_sharp(graph, plan, x, bits)
    plan = settled(graph, plan)
    like = converted if backend == "keras" else None
    data = lower(graph, plan, "int8", "int8", {}, like=like)
    compared = Comparison(data, fake_quantized(graph, plan))
    compared((x,))
    # Layers of 4 bits round as planned; those of 8 differ by a step each.
    assert compared.largest <= (2.01 if bits == 4 else longest_path(fb.read(data)) + 0.01)
    assert compared.mean < (0.1 if bits == 4 else 1.0)


def assert_sharp(graph: Graph, plan: Plan, x: np.ndarray, bits: int) -> None:
    """Scales are ranges by steps, and nothing is further from its value than half a step."""
    (seen,) = graph.capture(list(plan.activations), stream(x))
    scales = {float(p.affine.scale[0]) for p in plan.activations.values() if p.affine is not None}
    assert scales
    for layer, planned in plan.activations.items():
        assert planned.affine is not None
        assert planned.bits == (8 if layer == graph.inputs[0].name else bits)
        values, step = seen[layer].astype(np.float64), float(planned.affine.scale[0])
        low, high = min(values.min(), 0.0), max(values.max(), 0.0)
        if high - low > 1e-30:
            assert step == pytest.approx((high - low) / (2**planned.bits - 1), rel=1e-5)
        assert np.abs(fake_quantize(seen[layer], planned.affine) - values).max() <= 0.5001 * step
    inputs = {op.name: op.input for op in graph.linear_ops()}
    for op in graph.linear_ops():
        weights = plan.weights[op.name]
        assert weights.affine is not None
        assert op.bias is not None
        steps = weights.affine.scale.astype(np.float64)
        rows = np.moveaxis(op.kernel, op.channel_axis, 0).reshape(op.channels, -1).astype(np.float64)
        largest = np.abs(rows).max(axis=1)
        held = np.moveaxis(weights.represented(op.kernel), op.channel_axis, 0).reshape(rows.shape)
        assert (np.abs(held - rows).max(axis=1) <= 0.5001 * steps).all()
        read = plan.activations.get(inputs[op.name])
        # A flattened pooling has the scale of what it pools.
        read = plan.activations[graph_source(graph, inputs[op.name])] if read is None else read
        assert read.affine is not None
        # The bias has 31 bits in steps of input times weight; of 4 bits sums count sixteenths of the input's.
        room = np.abs(op.bias.astype(np.float64)) / (read.affine.scale[0] / 2.0 ** (8 - read.bits) * 2.0**30)
        live = largest > 1e-15
        if not live.any():
            np.testing.assert_allclose(steps, np.maximum(2.0**-60, room), rtol=1e-5)
        np.testing.assert_allclose(steps[live], np.maximum(largest / (2 ** (bits - 1) - 1), room)[live], rtol=1e-5)


def graph_source(graph: Graph, name: str) -> str:
    sources = {t.name: t.same_scale_as for t in graph.tensors()}
    while (source := sources[name]) is not None:
        name = source
    return name


STATIC = [name for name in FAMILIES if not name.startswith(("dynamic", "weight_only"))]


# Families that errors are looked at with on both backends.
BOTH = ["static_wi8_ai8", "static_wi4_ai4"]
ERRORS = [*(("tflite", family) for family in STATIC), *(("keras", family) for family in BOTH)]


@pytest.mark.parametrize(("backend", "family"), ERRORS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_data_that_overflow_are_named(graphs: dict[str, Graph], backend: str, family: str, value: float) -> None:
    graph, x = graphs[backend], X.copy()
    x[3, 1, 1, 0] = value
    with pytest.raises(BadInput, match=r"layer '|samples: ") as caught:
        FAMILIES[family][0](graph, x)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("backend", "family"), ERRORS)
def test_no_samples_are_named(graphs: dict[str, Graph], backend: str, family: str) -> None:
    graph = graphs[backend]
    with pytest.raises(BadInput, match="calibration data samples: found no samples"):
        FAMILIES[family][0](graph, X[:0])


@pytest.mark.parametrize(
    ("backend", "family"), [*(("tflite", family) for family in FAMILIES), *(("keras", family) for family in BOTH)]
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(
    graphs: dict[str, Graph], backend: str, family: str, value: float
) -> None:
    graph = graphs[backend]
    bad = changed("CONV_2D", 1, put((0, 0, 0, 0), value))(graph)
    with pytest.raises(BadInput, match=f"layer '{layer(graph, 'CONV_2D', 1)}'") as caught:
        FAMILIES[family][0](bad, X)
    assert "\n" not in str(caught.value)


def normalized(variance: float, gamma: float) -> tf_keras.Model:
    image = tf_keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(4, 3, name="stem")(image)
    x = layers.BatchNormalization(name="norm", epsilon=1e-3)(x)
    made = tf_keras.Model(image, layers.Dense(3, name="logits")(layers.Flatten()(layers.ReLU(6.0)(x))))
    norm = made.get_layer("norm")
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    norm.set_weights([gamma * ones, zeros + 0.5, zeros, np.array([variance, 1, 1, 1], np.float32)])
    return made


@pytest.mark.parametrize(("variance", "gamma"), [(0.0, 1.0), (0.0, 0.0), (1e-38, 1.0), (1e30, 1.0)])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", ["static_wi8_ai8", "static_wi4_ai4", "static_wi8_ai16", "dynamic_wi8_afp32", "GPTQ"])
def test_batch_norm_at_the_edge(variance: float, gamma: float, family: str, backend: str) -> None:
    make, share = FAMILIES[family]
    graph = BACKENDS[backend](normalized(variance, gamma))
    assert_near(make(graph.fold_batch_norm(), X), graph, X, share)


def test_a_negative_variance_is_named() -> None:
    with pytest.raises(BadInput, match=r"layer 'norm' \(BatchNormalization\): .*variance"):
        KerasGraph.from_model(normalized(-1.0, 1.0)).fold_batch_norm()


def test_a_negative_variance_that_a_converter_folded_is_named() -> None:
    graph = BACKENDS["tflite"](normalized(-1.0, 1.0)).fold_batch_norm()
    with pytest.raises(BadInput, match=r"layer '.*' \(CONV_2D\): .*NaN"):
        planned(graph, X, 8)
