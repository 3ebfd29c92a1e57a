"""Formats other than static int8: dynamic range, weight-only, groups and 16-bit activations, on both backends."""

import numpy as np
import pytest
import tf_keras

from tests.nets import images, mixed_net
from tests.unit.lowering.test_lower import BACKENDS, tflite
from tfq_pipeline.errors import BadInput, GateFailed
from tfq_pipeline.lowering.lower import lower
from tfq_pipeline.lowering.reference import fake_quantized
from tfq_pipeline.lowering.verify import verify
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.inspect import inspect
from tfq_pipeline.tflite.interpreter import open_model

SIZE = 16
FORMATS = {
    "dynamic_wi8": LayerRequest(Request(8, True, "channel"), None),
    "dynamic_wi4": LayerRequest(Request(4, True, "channel"), None),
    "dynamic_wi4b32": LayerRequest(Request(4, True, "group", group_size=32), None),
    "weight_only_wi8": LayerRequest(Request(8, True, "channel", decoded=True), None),
    "weight_only_wi4": LayerRequest(Request(4, True, "channel", decoded=True), None),
}


@pytest.fixture(scope="module", params=BACKENDS)
def graph(request):
    return BACKENDS[request.param](mixed_net(SIZE)).fold_batch_norm()


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_without_ranges_computes_what_its_rounded_weights_compute(graph, name):
    plan = quantize(graph, None, lambda *_: FORMATS[name])
    file = lower(graph, plan, "float32", "float32", {})
    data = images(48, SIZE)
    result = verify(file, graph, plan, fake_quantized(graph, plan), data, require_integer=False)
    assert result.max_relative_error < (1e-5 if "weight_only" in name else 0.05)
    # An independent estimate of how far rounded weights may lie from the model itself.
    x = next(iter(data)).inputs
    drift = np.abs(open_model(file).run(x)[0] - graph.run(x)[0]).max()
    assert drift < (0.05 if "wi8" in name else 0.5)


def test_bits_and_groups_are_what_inspect_finds(graph):
    plan = quantize(graph, None, lambda *_: FORMATS["dynamic_wi4b32"])
    found = {w["layer"]: w for w in inspect(lower(graph, plan, "float32", "float32", {}))["weights"]}
    assert {(w["op"], w["bits"], w["granularity"], w["group_size"]) for w in found.values()} == {
        ("CONV_2D", 4, "channel", None),
        ("DEPTHWISE_CONV_2D", 8, "channel", None),  # no 4-bit kernel quantizes what it reads
        ("FULLY_CONNECTED", 4, "group", 32),
        ("FULLY_CONNECTED", 4, "channel", None),  # 16 inputs make no group of 32
    }
    assert {name for name, why in plan.reasons.items() if "8 bits" in why} == {
        name for name, w in found.items() if w["bits"] == 8
    }


@pytest.mark.parametrize("size", [16, 48, 96, 192])
@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
def test_groups_of_every_size_with_and_without_a_fused_activation(size, activation):
    tf_keras.utils.set_random_seed(0)
    values = tf_keras.Input((192,))
    graph = tflite(tf_keras.Model(values, tf_keras.layers.Dense(24, activation, bias_initializer="ones")(values)))
    plan = quantize(graph, None, lambda *_: LayerRequest(Request(4, True, "group", group_size=size), None))
    file = lower(graph, plan, "float32", "float32", {})
    x = np.random.default_rng(0).normal(size=(8, 192)).astype(np.float32)
    (op,) = graph.linear_ops()
    kernel = op.kernel.reshape(24, -1, size)
    scale = plan.weights[op.name].affine.scale.reshape(24, -1, 1)
    real = x @ (np.clip(np.round(kernel / scale), -7, 7) * scale).reshape(24, 192).T + 1
    wanted = real if activation is None else np.clip(real, 0, 6 if activation == "relu6" else None)
    for xnnpack in (True, False):
        got = open_model(file, default_delegates=xnnpack).run([x])[0]
        assert np.abs(got - wanted).max() < 0.02 * np.abs(wanted).max()


@pytest.mark.parametrize(("inputs", "group_size"), [(16, None), (32, 16), (48, 16)])
def test_no_group_is_too_short_for_kernels(inputs, group_size):
    tf_keras.utils.set_random_seed(0)
    values = tf_keras.Input((inputs,))
    graph = tflite(tf_keras.Model(values, tf_keras.layers.Dense(5)(values)))
    (op,) = graph.linear_ops()
    plan = quantize(graph, None, lambda *_: LayerRequest(Request(4, True, "group", group_size=16), None))
    assert plan.weights[op.name].group_size == group_size
    x = np.random.default_rng(0).normal(size=(8, inputs)).astype(np.float32)
    wanted = x @ op.kernel.T
    for xnnpack in (True, False):
        got = open_model(lower(graph, plan, "float32", "float32", {}), default_delegates=xnnpack).run([x])[0]
        assert np.abs(got - wanted).max() < 0.1 * np.abs(wanted).max()


@pytest.mark.parametrize("bits", [8, 4])
def test_sixteen_bit_activations(graph, bits):
    data = images(48, SIZE)
    asked = LayerRequest(Request(bits, True, "channel"), Request(16, True))
    plan = quantize(graph, calibrate(graph, data, "minmax", 48), lambda *_: asked)
    file = lower(graph, plan, "int16", "int16", {})
    result = verify(file, graph, plan, fake_quantized(graph, plan), data, require_integer=True)
    assert result.argmax_agreement == 1.0
    model = fb.read(file)
    assert {fb.type_name(t) for op in fb.ops(model) for t in op.outputs} == {"INT16"}
    assert {fb.type_name(op.inputs[2]) for op in fb.ops(model) if op.name == "CONV_2D"} == {"INT64"}
    depthwise = next(op for op in fb.ops(model) if op.name == "DEPTHWISE_CONV_2D")
    assert fb.type_name(depthwise.inputs[1]) == "INT8", "its kernel reads no 4-bit weights beside 16-bit activations"


def test_an_end_of_another_width_than_the_plan_is_refused(graph):
    data = images(8, SIZE)
    asked = LayerRequest(Request(8, True, "channel"), Request(16, True))
    plan = quantize(graph, calibrate(graph, data, "minmax", 8), lambda *_: asked)
    with pytest.raises(BadInput, match="has int16 in the plan, asked is int8; write int16 or float32"):
        lower(graph, plan, "int8", "int8", {})


def test_a_float_file_that_computes_something_else_fails_verification(graph):
    plan = quantize(graph, None, lambda *_: FORMATS["weight_only_wi8"])
    model = fb.read(lower(graph, plan, "float32", "float32", {}))
    op = next(op for op in fb.ops(model) if op.name == "CONV_2D")
    fb.set_array(model, op.inputs[2], "FLOAT32", fb.array(model, op.inputs[2]) + 1.0)
    with pytest.raises(GateFailed, match="of its largest output"):
        verify(fb.pack(model), graph, plan, fake_quantized(graph, plan), images(8, SIZE), require_integer=False)
