"""Ranges from data, shared scales, and the plan that follows from them."""

import numpy as np
import pytest

from tests.nets import images, mixed_net
from tfq_pipeline.data import Batch, Data
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Tensor, Weights
from tfq_pipeline.passes.calibrate import calibrate, shared_scales
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize

EIGHT = LayerRequest(Request(8, True, "channel"), Request(8, False))


@pytest.fixture(scope="module")
def graph():
    return KerasGraph.from_model(mixed_net()).fold_batch_norm()


def test_minmax_ranges_are_those_of_the_captured_values(graph):
    data = images(60)
    found = calibrate(graph, data, "minmax", 50)
    assert found.samples == 50
    seen = np.concatenate([v["stem"] for v in graph.capture(["stem"], data.take(50))])
    assert found.ranges["stem"] == (seen.min(), seen.max())
    assert "pool" not in found.ranges, "pooling writes the scale it reads"


def test_tensors_that_one_operator_joins_share_the_union(graph):
    found = calibrate(graph, images(), "minmax", 96)
    assert found.ranges["lone_bn"] == found.ranges["side"] == found.ranges["join"]


def test_groups_merge_through_common_members():
    tensors = (
        Tensor("a", "T", ()),
        Tensor("b", "T", ()),
        Tensor("c", "T", (), same_scale_as="b"),
        Tensor("ab", "Concatenate", (), joined=("a", "c")),
        Tensor("s", "Softmax", (), fixed=(1 / 256, -128)),
        Tensor("abs", "Concatenate", (), joined=("ab", "s")),
    )
    assert shared_scales(tensors) == (("a", "ab", "abs", "b"),)


def test_moving_average_moves_toward_later_batches(graph):
    batches = [Batch((np.full((4, 12, 12, 3), value, np.float32),)) for value in (1.0, 3.0)]
    data = Data("steps", lambda: iter(batches), 8)
    _, high = calibrate(graph, data, "moving_average", 8, {"decay": 0.75}).ranges["image"]
    assert high == pytest.approx(0.75 * 1.0 + 0.25 * 3.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_in_the_data_name_the_layer(graph, value):
    x = np.ones((2, 12, 12, 3), np.float32)
    x[1, 2, 3, 0] = value
    with pytest.raises(BadInput, match=r"layer 'image'.*calibrating on bad"):
        calibrate(graph, Data("bad", lambda: iter([Batch((x,))]), 2), "minmax", 2)


def test_no_samples_is_an_error_that_names_the_data(graph):
    with pytest.raises(BadInput, match="calibration data empty: found no samples"):
        calibrate(graph, Data("empty", lambda: iter(()), 0), "minmax", 10)


def test_weights_are_on_the_grid_that_their_maximum_spans(graph):
    plan = quantize(graph, calibrate(graph, images(), "minmax", 96), lambda *_: EIGHT)
    for op in graph.linear_ops():
        affine = plan.weights[op.name].affine
        other = tuple(a for a in range(op.kernel.ndim) if a != op.channel_axis)
        np.testing.assert_allclose(affine.scale, np.abs(op.kernel).max(axis=other) / 127, rtol=1e-6)
    assert plan.activations["probabilities"].affine.scale[0] == np.float32(1 / 256)
    assert set(plan.activations).isdisjoint({"pool", "flat"})


def test_a_skipped_layer_stays_float_with_the_reason(graph):
    def request(name, kind, op):
        return LayerRequest(None, None) if name == "hidden" else EIGHT

    plan = quantize(graph, calibrate(graph, images(), "minmax", 96), request)
    assert plan.weights["hidden"].is_float
    assert plan.floats == {"hidden"}
    assert "hidden" in plan.activations, "the layer behind it reads integers"
    assert plan.reasons == {"hidden": "the recipe skips it"}


def test_batch_norm_left_in_is_named():
    graph = KerasGraph.from_model(mixed_net())
    found = calibrate(graph, images(), "minmax", 10)
    with pytest.raises(BadInput, match=r"'stem_bn'.*fold_batch_norm"):
        quantize(graph, found, lambda *_: EIGHT)


def test_weights_with_nan_are_named(graph):
    op = next(op for op in graph.linear_ops() if op.name == "side")
    kernel = op.kernel.copy()
    kernel[0] = np.nan
    found = calibrate(graph, images(), "minmax", 10)
    with pytest.raises(BadInput, match=r"layer 'side' \(Conv2D\): weights: .*NaN"):
        quantize(graph.with_weights({"side": Weights(kernel, op.bias)}), found, lambda *_: EIGHT)


def test_a_nearly_dead_channel_with_a_large_bias_keeps_its_bias(graph):
    op = next(op for op in graph.linear_ops() if op.name == "side")
    kernel, bias = op.kernel.copy(), np.full(4, 3.0, np.float32)
    kernel[1] *= 1e-12
    changed = graph.with_weights({"side": Weights(kernel, bias)})
    plan = quantize(changed, calibrate(changed, images(), "minmax", 96), lambda *_: EIGHT)
    step = plan.weights["side"].affine.scale.astype(np.float64) * plan.activations["lone_bn"].affine.scale[0]
    assert (np.abs(bias / step) < 2**31).all()
    np.testing.assert_allclose(np.round(bias / step) * step, bias, rtol=1e-3)


def test_layers_with_float_activations_need_no_ranges(graph):
    plan = quantize(graph, None, lambda *_: LayerRequest(Request(8, True, "channel"), None))
    assert plan.activations == {}
    assert plan.floats == {t.name for t in graph.tensors() if t.reads}
    assert plan.reasons == {}


def test_groups_share_a_short_scale_where_runtimes_read_them():
    import ml_dtypes

    graph = KerasGraph.from_model(mixed_net(16)).fold_batch_norm()
    asked = LayerRequest(Request(4, True, "group", 32), None)
    plan = quantize(graph, None, lambda *_: asked)
    hidden = next(op for op in graph.linear_ops() if op.name == "hidden")
    rows = np.abs(hidden.kernel.reshape(16, -1, 32)).max(axis=2)
    short = (rows / 7).astype(ml_dtypes.bfloat16).astype(np.float16)
    np.testing.assert_array_equal(plan.weights["hidden"].affine.scale, short.reshape(-1))
    assert plan.weights["stem"].granularity == plan.weights["logits"].granularity == "channel"
    assert set(plan.reasons) == {"stem", "depthwise", "project", "lone_bn", "side", "logits"}
    error = np.abs(plan.weights["hidden"].represented(hidden.kernel) - hidden.kernel).reshape(*rows.shape, 32)
    assert (error <= (rows / 7 * 0.54)[..., None]).all()
