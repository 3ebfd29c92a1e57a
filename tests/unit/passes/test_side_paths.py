"""Layers with side paths: the function stays, the right channels are chosen, the file computes exact integers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tf_keras

import tfq_pipeline as tfq
from tests.nets import images
from tfq_pipeline import recipe
from tfq_pipeline.data import Batch, Data
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.tflite_graph import TfliteGraph
from tfq_pipeline.lowering.lower import lower, lower_float
from tfq_pipeline.numerics import integer_ops
from tfq_pipeline.numerics.fixed_point import multiply_by_quantized_multiplier, quantize_multiplier
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.dense_and_sparse import dense_and_sparse
from tfq_pipeline.passes.outlier_channels import outlier_channels
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.interpreter import open_model

BACKENDS = {
    "keras": KerasGraph.from_model,
    "tflite": lambda model: TfliteGraph.read(lower_float(KerasGraph.from_model(model))),
}
LOUD, HEAVY = [3, 11], [5, 17]


def net(loud: float = 40.0, heavy: float = 30.0):
    """Convolutions and dense layers; `second` reads two channels of large activations, and two by large weights."""
    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(3)
    image = tf_keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(24, 3, activation="relu", name="first")(image)
    x = layers.Conv2D(10, 3, strides=2, padding="same", activation="relu6", name="second")(x)
    x = layers.Flatten(name="flat")(x)
    model = tf_keras.Model(image, layers.Dense(5, name="last")(x), name="loud")
    first, second = model.get_layer("first"), model.get_layer("second")
    kernel, bias = first.get_weights()
    kernel[..., LOUD] *= loud
    first.set_weights([kernel, bias + 0.1])
    kernel, bias = second.get_weights()
    kernel[:, :, LOUD] /= loud
    kernel[0, 1, HEAVY] *= heavy
    second.set_weights([kernel, bias + 0.2])
    return model


def outputs(graph, data=None):
    return np.concatenate([graph.run(batch.inputs)[0] for batch in data or images(40, 8)])


@pytest.mark.parametrize("backend", BACKENDS)
def test_channels_with_large_activations_leave_the_layer_and_the_function_stays(backend):
    graph = BACKENDS[backend](net())
    second = graph.linear_ops()[1]
    made = outlier_channels(graph, images(40, 8), share=0.1)
    assert {name: c.tolist() for name, c in made.channels.items()} == {second.name: LOUD}
    np.testing.assert_allclose(outputs(made.graph), outputs(graph), rtol=1e-4, atol=1e-4)
    ops = {op.name: op for op in made.graph.linear_ops()}
    assert list(ops) == [graph.linear_ops()[0].name, f"{second.name}_main", f"{second.name}_side", "last" if
                         backend == "keras" else graph.linear_ops()[2].name]  # fmt: skip
    assert not ops[f"{second.name}_main"].kernel[..., LOUD].any()
    np.testing.assert_array_equal(ops[f"{second.name}_side"].kernel, second.kernel[..., LOUD])
    assert made.graph.outputs == graph.outputs
    tensors = {t.name: t for t in made.graph.tensors()}
    assert (tensors[second.name].op, tensors[second.name].activation) == ("ADD", "RELU6")
    assert tensors[f"{second.name}_channels"].same_scale_as == second.input


@pytest.mark.parametrize("backend", BACKENDS)
def test_clipped_weights_and_what_was_clipped_off_them_add_up(backend):
    graph = BACKENDS[backend](net())
    second = graph.linear_ops()[1]
    made = dense_and_sparse(graph, share=0.08)
    assert made.channels[second.name].tolist() == HEAVY
    ops = {op.name: op for op in made.graph.linear_ops()}
    main, side = ops[f"{second.name}_main"].kernel, ops[f"{second.name}_side"].kernel
    whole = main.copy()
    whole[..., HEAVY] += side
    np.testing.assert_allclose(whole, second.kernel, rtol=1e-6)
    others = np.abs(np.delete(second.kernel, HEAVY, axis=3)).max(axis=(1, 2, 3))
    np.testing.assert_allclose(np.abs(main).max(axis=(1, 2, 3)), others)
    assert np.count_nonzero(side) <= 2 * second.channels, "one tap of the two channels was large"
    np.testing.assert_allclose(outputs(made.graph), outputs(graph), rtol=1e-4, atol=1e-4)


def test_layers_without_outliers_and_shared_layers_stay_as_they_are():
    graph = KerasGraph.from_model(net(1.0, 1.0))
    assert outlier_channels(graph, images(20, 8)).channels == {}
    assert dense_and_sparse(graph).channels == {}
    shared = tf_keras.layers.Dense(6, name="shared")
    a, b = tf_keras.Input((6,)), tf_keras.Input((6,))
    graph = KerasGraph.from_model(tf_keras.Model([a, b], tf_keras.layers.Add()([shared(a), shared(b)])))
    x = np.ones((4, 6), np.float32) * [1, 1, 1, 1, 1, 99]
    data = Data("ones", lambda: iter([Batch((x.astype(np.float32), x.astype(np.float32)))]), 4)
    assert outlier_channels(graph, data, share=0.5).channels == {}


def add_int8(a, b, scales, zero_points):
    """TFLite's reference ADD: both sums in 32 bits with 20 bits of fraction, https://arxiv.org/abs/1712.05877, A.2."""
    twice = 2.0 * max(scales[0], scales[1])
    parts = []
    for q, scale, zero_point in zip((a, b), scales[:2], zero_points[:2], strict=True):
        m, shift = quantize_multiplier(np.array([scale / twice]))
        parts.append(multiply_by_quantized_multiplier((q.astype(np.int32) - zero_point) << 20, m, shift))
    m, shift = quantize_multiplier(np.array([twice / (float(1 << 20) * scales[2])]))
    return multiply_by_quantized_multiplier(parts[0] + parts[1], m, shift) + zero_points[2]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_file_computes_exact_integers(backend):
    """Each of the four operators against plain integer arithmetic on the tensors that the runtime holds."""
    made = outlier_channels(BACKENDS[backend](net()), images(40, 8), share=0.1)

    def request(name, kind, op):
        return LayerRequest(Request(8 if name.endswith("_side") else 4, True, "channel"), Request(8, False))

    plan = quantize(made.graph, calibrate(made.graph, images(40, 8), "minmax", 40), request)
    file = lower(made.graph, plan, "int8", "int8", {})
    model = fb.read(file)
    ops = list(fb.ops(model))
    gather = next(op for op in ops if op.name == "GATHER")
    add = next(op for op in ops if op.name == "ADD")
    main, side = (next(o for o in ops if int(o.operator.outputs[0]) == int(i)) for i in add.operator.inputs)
    assert (fb.type_name(main.inputs[1]), fb.type_name(side.inputs[1])) == ("INT4", "INT8")
    runner = open_model(file, keep_tensors=True, default_delegates=False)
    (batch,) = images(16, 8)
    wanted = [int(i) for op in (gather, main, side, add) for i in (op.operator.inputs[0], op.operator.outputs[0])]
    values = dict(zip(wanted, runner.run_raw([runner.input_ports[0].to_file(batch.inputs[0])], wanted), strict=True))

    def output(op):
        return values[int(op.operator.outputs[0])]

    source = values[int(gather.operator.inputs[0])]
    np.testing.assert_array_equal(output(gather), source[..., LOUD])
    for op, x in ((main, source), (side, output(gather))):
        weights = fb.array(model, op.inputs[1])
        bias = fb.array(model, op.inputs[2]) if len(op.inputs) > 2 and op.inputs[2] is not None else None
        stage = integer_ops.output_stage(
            fb.scales(op.inputs[0])[0], fb.scales(op.inputs[1]), fb.scales(op.outputs[0])[0],
            int(fb.zero_points(op.outputs[0])[0]), rounding="double_upward",
        )  # fmt: skip
        zero_point = int(fb.zero_points(op.inputs[0])[0])
        got = integer_ops.conv2d(x, weights, bias, zero_point, stage, strides=(2, 2), padding="same")
        np.testing.assert_array_equal(output(op), got)
    tensors = [*add.inputs, add.outputs[0]]
    scales = [float(fb.scales(t)[0]) for t in tensors]
    total = add_int8(output(main), output(side), scales, [int(fb.zero_points(t)[0]) for t in tensors])
    zero_point = int(fb.zero_points(tensors[2])[0])
    clipped = np.clip(total, max(-128, zero_point), min(127, zero_point + round(6 / scales[2])))
    np.testing.assert_array_equal(output(add), clipped)


RECIPE = """
version: 1
passes:
  - fold_batch_norm
  {first}
  - {split}
  - calibrate
  - quantize: {{weights: {{bits: 4}}, rules: [{{match: {{name: last}}, weights: {{bits: 8}}}}]}}
  - convert
"""


@pytest.mark.parametrize(
    ("first", "split"),
    [
        ("", "outlier_channels: {share: 0.1}"),
        ("", "dense_and_sparse: {share: 0.1}"),
        ("- smooth_quant: {alpha: 1.0}", "dense_and_sparse: {share: 0.2}"),
    ],
)
def test_through_the_pipeline_verified_and_closer_to_the_model(first, split, tmp_path):
    """Rules know the parts by the layer's name; side paths keep 8 bits."""
    model = net()
    model.save(tmp_path / "loud.h5")
    x = np.concatenate([batch.inputs[0] for batch in images(64, 8)])
    wanted = model.predict(x, verbose=0)

    def run(text):
        text = text.format(split=split, first=first).replace("  \n", "")
        return tfq.quantize(str(tmp_path / "loud.h5"), recipe.parse(text, "test", "test"), calibration=x)

    def lost(result):
        return np.mean((open_model(result.data).run([x])[0] - wanted) ** 2)

    made = run(RECIPE)
    plain = run(RECIPE.replace("  - {split}\n", ""))
    bits = {w["tensor"].split(";")[0]: w["bits"] for w in made.document["inspect"]["weights"]}
    assert sorted(bits.values()) == [4, 4, 8, 8]
    assert made.document["inspect"]["float_ops"] == 0
    checked = made.document["verification"]
    assert checked["max_abs_error_lsb"] <= checked["limit_lsb"]
    assert {w["layer"] for w in made.document["inspect"]["weights"]} == {"first", "second", "last"}
    (entry,) = [p for p in made.document["passes"] if "channels" in p]
    assert json.loads(json.dumps(entry))["channels"].keys() == {"second"}
    assert lost(made) < 0.9 * lost(plain)
