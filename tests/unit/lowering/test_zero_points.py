"""Zero points of weights: what the runtimes do with them, and files that compute them all the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tf_keras

import tfq_pipeline as tfq
from tests.nets import images, mixed_net
from tests.unit.lowering.test_lower import BACKENDS, tflite
from tfq_pipeline import recipe
from tfq_pipeline.annotate.scheme import annotate
from tfq_pipeline.data import Batch, Data
from tfq_pipeline.errors import BadInput, DeviceFailed, UnsupportedLayer
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Weights
from tfq_pipeline.lowering.lower import lower
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.passes.reconstruct import reconstruct
from tfq_pipeline.tflite import edit
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.interpreter import RUNTIMES, open_model

layers = tf_keras.layers
CHANNEL, GROUP = Request(4, True, "channel"), Request(4, True, "group", group_size=32)


def dense(asked: Request):
    """A dense layer of 64 inputs, and its weights' tensor."""
    values = tf_keras.Input((64,))
    graph = KerasGraph.from_model(tf_keras.Model(values, tf_keras.layers.Dense(8)(values)))
    plan = quantize(graph, None, lambda *_: LayerRequest(asked, None))
    model = fb.read(lower(graph, plan, "float32", "float32", {}))
    return model, next(op for op in fb.ops(model) if op.name == "FULLY_CONNECTED").inputs[1]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", ["INT8", "INT32", "INT64"])
def test_zero_points_of_groups_change_nothing(runtime, kind):
    model, weights = dense(GROUP)
    x = [np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)]
    plain = fb.pack(model)
    weights.quantization.details.zeroPoints = edit.add_constant(model, "zero_points", kind, np.full((8, 2), 3))
    for xnnpack in (True, False):
        run = [open_model(f, runtime=runtime, default_delegates=xnnpack).run(x)[0] for f in (plain, fb.pack(model))]
        np.testing.assert_array_equal(*run)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_zero_points_of_channels_are_refused(runtime):
    model, weights = dense(CHANNEL)
    weights.quantization.zeroPoint = np.full(8, 3, np.int64)
    for xnnpack in (True, False):
        with pytest.raises(DeviceFailed, match="zero-point"):
            open_model(fb.pack(model), runtime=runtime, default_delegates=xnnpack)


@pytest.mark.parametrize(("asked", "right"), [(CHANNEL, False), (GROUP, True)])
def test_the_built_in_kernel_takes_the_lowest_integer_of_groups_alone(asked, right):
    """Why weights of channels leave -8 out also where they have zero points."""
    model, weights = dense(asked)
    fb.set_array(model, weights, "INT4", np.full((8, 64), -8, np.int8))
    file = fb.pack(model)
    x = [np.ones((1, 64), np.float32)]
    wanted, got = (open_model(file, default_delegates=xnnpack).run(x)[0] for xnnpack in (True, False))
    assert np.allclose(got, wanted, rtol=1e-3) == right


@pytest.mark.parametrize("kind", [layers.Conv2D, layers.DepthwiseConv2D])
@pytest.mark.parametrize("symmetric", [True, False])
def test_dynamic_convolutions_get_a_scale_for_each_channel(kind, symmetric):
    values = tf_keras.Input((6, 6, 32))
    graph = KerasGraph.from_model(
        tf_keras.Model(values, kind(4, 3, groups=2)(values) if kind is layers.Conv2D else kind(3)(values))
    )
    (op,) = graph.linear_ops()
    plan = quantize(graph, None, lambda *_: LayerRequest(Request(8, symmetric, "tensor"), None))
    assert plan.weights[op.name].affine.scale.size == op.channels
    assert f"{op.op} beside dynamic activations read one scale a channel" in plan.reasons[op.name] or not symmetric
    exact = graph.with_weights({op.name: Weights(plan.weights[op.name].represented(op.kernel), op.bias)})
    file, x = lower(graph, plan, "float32", "float32", {}), binary(graph, 1)
    for xnnpack in (True, False):
        near(open_model(file, default_delegates=xnnpack).run([x])[0], exact.run([x])[0])


NETS = {
    "dense": ((64,), lambda: layers.Dense(6)),
    "dense with relu": ((64,), lambda: layers.Dense(6, "relu")),
    "dense on rows": ((5, 64), lambda: layers.Dense(6)),
    "convolution": ((7, 6, 64), lambda: layers.Conv2D(6, 3, strides=2, padding="same", activation="relu6")),
    "dilated convolution": ((7, 6, 64), lambda: layers.Conv2D(6, (2, 3), dilation_rate=2)),
    "grouped convolution": ((7, 6, 64), lambda: layers.Conv2D(6, 3, padding="same", groups=2)),
}
CASES = [
    *(
        (net, Request(bits, False, granularity))
        for net in NETS
        for bits, granularity in ((4, "channel"), (8, "channel"))
    ),
    ("dense", Request(8, False, "tensor")),
    *((net, Request(4, False, "group", group_size=size)) for net in list(NETS)[:3] for size in (16, 64)),
    ("dense", Request(3, False, "group", group_size=16, range="mse")),
]


def skewed(net, backend):
    """A layer whose weights lie to one side of 0, each channel and run of inputs by another amount."""
    shape, make = NETS[net]
    tf_keras.utils.set_random_seed(1)
    values = tf_keras.Input(shape)
    graph = BACKENDS[backend](tf_keras.Model(values, make()(values)))
    (op,) = graph.linear_ops()
    rng = np.random.default_rng(2)
    shift = rng.uniform(-0.1, 0.1, (*op.kernel.shape[:-1], op.kernel.shape[-1] // 16)).repeat(16, axis=-1)
    shift += rng.choice([-0.2, 0.2], (op.channels, *[1] * (shift.ndim - 1)))
    bias = rng.normal(size=op.channels)
    return graph.with_weights({op.name: Weights((op.kernel + shift).astype(np.float32), bias.astype(np.float32))})


def decoded(planned, shape):
    """Weights from integers, scales and zero points, written out."""
    scale, zero_point = (v.reshape(-1, 1) for v in (planned.affine.scale, planned.affine.zero_point))
    rows = planned.values.reshape(len(scale), -1).astype(np.int32)
    return ((rows - zero_point) * scale.astype(np.float64)).reshape(shape).astype(np.float32)


def binary(graph, count=3):
    """Inputs that every runtime's quantization of activations represents exactly: 0 and 2.5."""
    return 2.5 * np.random.default_rng(3).integers(0, 2, (count, *graph.inputs[0].shape)).astype(np.float32)


def near(got, wanted, within=1e-5):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=within * np.abs(wanted).max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("net", "asked"), CASES, ids=str)
def test_every_runtime_computes_them(net, asked, backend):
    graph = skewed(net, backend)
    (op,) = graph.linear_ops()
    plan = quantize(graph, None, lambda *_: LayerRequest(asked, None))
    assert not plan.reasons
    # Integers drawn at random: all of them occur, the lowest too.
    affine = plan.weights[op.name].affine
    values = np.random.default_rng(4).integers(affine.qmin, affine.qmax + 1, op.kernel.shape).astype(np.int8)
    planned = replace(plan.weights[op.name], values=values)
    assert affine.zero_point.any()
    file = lower(graph, plan.with_weights({op.name: planned}), "float32", "float32", {})
    exact = graph.with_weights({op.name: Weights(decoded(planned, op.kernel.shape), op.bias)})
    for x in np.split(binary(graph), 3):
        wanted = exact.run([x])[0]
        for runtime in RUNTIMES:
            for xnnpack in (True, False):
                near(open_model(file, runtime=runtime, default_delegates=xnnpack).run([x])[0], wanted)
        near(open_model(file, delegate="int4").run([x])[0], wanted)


@pytest.mark.parametrize("net", NETS)
def test_a_dequantize_reads_those_of_decoded_weights(net):
    graph = skewed(net, "keras")
    (op,) = graph.linear_ops()
    plan = quantize(graph, None, lambda *_: LayerRequest(Request(4, False, "channel", decoded=True), None))
    planned = replace(plan.weights[op.name], values=plan.weights[op.name].integers(op.kernel))
    exact = graph.with_weights({op.name: Weights(decoded(planned, op.kernel.shape), op.bias)})
    file = lower(graph, plan, "float32", "float32", {})
    x = np.random.default_rng(5).normal(size=(1, *graph.inputs[0].shape)).astype(np.float32)
    for runtime in RUNTIMES:
        for more in ({}, {"default_delegates": False}, {"delegate": "int4"}):
            near(open_model(file, runtime=runtime, **more).run([x])[0], exact.run([x])[0])


def test_weights_to_one_side_of_zero_lose_less_with_them():
    graph = skewed("dense", "keras")
    (op,) = graph.linear_ops()
    x = np.random.default_rng(6).normal(size=(200, 64)) + 0.5
    real = op.kernel.reshape(6, 2, 32).astype(np.float64)
    low, high = np.minimum(real.min(axis=2, keepdims=True), 0), np.maximum(real.max(axis=2, keepdims=True), 0)
    errors = []
    for symmetric, steps in ((True, np.maximum(-low, high) / 7), (False, (high - low) / 15)):
        asked = Request(4, symmetric, "group", group_size=32)
        planned = quantize(graph, None, lambda *_, a=asked: LayerRequest(a, None)).weights[op.name]
        # Half a step, and what scales of half precision and whole zero points move the ends by.
        assert (np.abs(planned.represented(op.kernel).reshape(real.shape) - real) < 0.55 * steps).all()
        errors.append(np.mean((x @ (planned.represented(op.kernel) - op.kernel).T) ** 2))
    assert errors[1] < 0.6 * errors[0]


def test_techniques_choose_integers_on_the_grid_with_zero_points():
    """Without layers before it, and rounding to nearest, a layer keeps its integers."""
    graph = skewed("dense", "keras")
    (op,) = graph.linear_ops()
    plan = quantize(graph, None, lambda *_: LayerRequest(Request(4, False, "group", group_size=32), None))
    x = np.random.default_rng(7).normal(size=(256, 64)).astype(np.float32)

    def nearest(target, scale, a, low, high, start):
        assert (low == -8).all()
        assert (high == 7).all()
        return np.clip(np.rint(target / scale), low, high).astype(np.int8)

    made = reconstruct(graph, plan, Data("normal", lambda: iter([Batch((x,))]), len(x)), nearest)
    np.testing.assert_array_equal(made.plan.weights[op.name].values, plan.weights[op.name].integers(op.kernel))


def test_integer_kernels_get_symmetric_weights_and_the_plan_says_why():
    text = """
version: 1
passes:
  - fold_batch_norm
  - calibrate
  - quantize:
      weights: {bits: 4, granularity: group, group_size: 16, symmetric: false}
      activations: {mode: dynamic}
      rules: [{match: {name: project}, weights: {granularity: channel}, activations: {mode: static}}]
  - convert: {inputs: float32, outputs: float32}
"""
    made = tfq.quantize(mixed_net(), recipe.parse(text, "mine", "mine"), calibration=images())
    symmetric = {name: planned.affine.symmetric for name, planned in made.plan.weights.items()}
    assert symmetric == {
        **dict.fromkeys(("stem", "side", "hidden", "logits"), False),
        **dict.fromkeys(("depthwise", "project", "lone_bn"), True),
    }
    assert "DEPTHWISE_CONV_2D reads zero points of weights beside dynamic" in made.plan.reasons["depthwise"]
    assert "CONV_2D reads zero points of weights beside int8" in made.plan.reasons["project"]


def test_runs_of_an_input_of_free_size_are_refused():
    values = tf_keras.Input((None, None, 64))
    graph = tflite(tf_keras.Model(values, layers.Conv2D(6, 3, groups=2)(values)))
    (op,) = graph.linear_ops()
    kernel = np.abs(op.kernel)
    graph = graph.with_weights({op.name: Weights(kernel, op.bias)})
    plan = quantize(graph, None, lambda *_: LayerRequest(Request(4, False, "channel"), None))
    with pytest.raises(UnsupportedLayer, match=r"layer '.*' \(CONV_2D\): a size of its input is free"):
        lower(graph, plan, "float32", "float32", {})


def test_training_refuses_them():
    graph = skewed("dense", "keras")
    plan = quantize(graph, None, lambda *_: LayerRequest(Request(4, False, "channel"), None))
    with pytest.raises(BadInput, match="planned with zero points of weights, training knows symmetric weights alone"):
        annotate(graph, plan)
