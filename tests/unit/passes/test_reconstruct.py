"""Moments, layer-wise reconstruction and the passes that move factors between layers, on a real graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.nets import images, mixed_net
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Weights
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.cross_layer_equalization import cross_layer_equalization
from tfq_pipeline.passes.gptq import gptq
from tfq_pipeline.passes.moments import moments
from tfq_pipeline.passes.patches import patches
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.passes.reconstruct import corrected_bias, reconstruct
from tfq_pipeline.passes.smooth_quant import smooth_quant


@pytest.fixture(scope="module")
def graph():
    return KerasGraph.from_model(mixed_net()).fold_batch_norm()


@pytest.fixture(scope="module")
def four_bit(graph):
    request = LayerRequest(Request(4, True, "channel"), Request(8, False))
    return quantize(graph, calibrate(graph, images(), "minmax", 96), lambda *_: request)


def captured(graph, name):
    return np.concatenate([values[name] for values in graph.capture([name], images())])


def output_error(graph, other):
    return np.mean(
        [
            np.mean((a - b) ** 2)
            for batch in images()
            for a, b in zip(graph.run(batch.inputs), other.run(batch.inputs), strict=True)
        ]
    )


def quantized(graph, plan):
    return graph.with_weights(
        {op.name: Weights(plan.weights[op.name].represented(op.kernel), op.bias) for op in graph.linear_ops()}
    )


def test_moments_are_those_of_all_patches(graph):
    op = next(op for op in graph.linear_ops() if op.name == "project")
    after = graph.with_weights({"depthwise": Weights(*_halved(graph, "depthwise"))})
    found = moments([op], graph, after, images(), np.random.default_rng(0))["project"]
    x, y = (patches(op, captured(g, op.input)).astype(np.float64) for g in (graph, after))
    np.testing.assert_allclose(found.a, y.transpose(0, 2, 1) @ y / y.shape[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.b, y.transpose(0, 2, 1) @ x / y.shape[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.mean_x, x.mean(axis=1), rtol=1e-4, atol=1e-6)
    assert found.count == y.shape[1]


def _halved(graph, name):
    op = next(op for op in graph.linear_ops() if op.name == name)
    return op.kernel * 0.5, op.bias


def test_the_target_undoes_what_came_before(graph):
    """With every input halved the best weights are the double; the correction of the bias has nothing left to do."""
    op = next(op for op in graph.linear_ops() if op.name == "hidden")
    found = moments([op], graph, graph, images(), np.random.default_rng(0))["hidden"]
    x = patches(op, captured(graph, op.input))[0].astype(np.float64)
    halved = replace(found, a=found.a / 4, b=found.b / 2, mean_y=found.mean_y / 2)
    target = halved.target(op)[0]
    wanted, given = x @ op.kernel.T, (x / 2) @ target.T
    assert np.mean((given - wanted) ** 2) < 0.02 * np.mean(wanted**2)


def test_reconstruction_beats_rounding_to_nearest_and_keeps_the_plan(graph, four_bit):
    made = reconstruct(graph, four_bit, images(), lambda t, scale, a, low, high, start: gptq(t, scale, a, low, high))
    assert set(made.errors) == {op.name for op in graph.linear_ops()}
    assert sum(after for _, after in made.errors.values()) < sum(before for before, _ in made.errors.values())
    assert output_error(graph, quantized(made.graph, made.plan)) < 0.7 * output_error(graph, quantized(graph, four_bit))
    for name, planned in made.plan.weights.items():
        assert np.abs(planned.values).max() <= 7
        np.testing.assert_array_equal(planned.affine.scale, four_bit.weights[name].affine.scale)


def test_a_corrected_bias_keeps_the_mean_of_every_channel(graph):
    op = graph.linear_ops()[0]
    kernel = np.round(op.kernel * 4) / 4
    found = moments([op], graph, graph, images(), np.random.default_rng(0))[op.name]
    linear = [
        patches(op, captured(graph, op.input))[0] @ k.reshape(op.channels, -1).T + b
        for k, b in ((op.kernel, op.bias), (kernel, corrected_bias(op, kernel, found)))
    ]
    np.testing.assert_allclose(linear[1].mean(axis=0), linear[0].mean(axis=0), atol=1e-4)


def test_no_samples_is_an_error(graph):
    with pytest.raises(BadInput, match="found no samples"):
        moments(graph.linear_ops()[:1], graph, graph, images().take(0), np.random.default_rng(0))


@pytest.mark.parametrize("technique", [cross_layer_equalization, smooth_quant])
def test_moving_factors_changes_no_output(graph, technique):
    """Depthwise reads a ReLU6: its factors stay below what the largest activation allows."""
    uneven = _uneven(graph)
    made = technique(uneven, images())
    assert ("stem", "depthwise") not in made.spread  # the residual reads the stem too
    assert ("depthwise", "project") in made.spread
    before, after = made.spread["depthwise", "project"]
    assert after < before / 2
    assert output_error(uneven, made.graph) < 1e-9


def _uneven(graph):
    """The same function with the channels of `depthwise` scaled apart by factors of up to 100."""
    ops = {op.name: op for op in graph.linear_ops()}
    first, second = ops["depthwise"], ops["project"]
    factor = np.geomspace(0.1, 10, first.channels).astype(np.float32)
    return graph.with_weights(
        {
            "depthwise": Weights(first.kernel * factor, first.bias * factor),
            "project": Weights(second.kernel / factor, second.bias),
        }
    )


def test_equalized_ranges_are_the_geometric_mean(graph):
    """Equation 10 of the paper: after equalization both layers have the range sqrt(r1 r2) in every channel."""
    made = cross_layer_equalization(_uneven(graph), images())
    ops = {op.name: op for op in made.graph.linear_ops()}
    writes = np.abs(ops["depthwise"].kernel).max(axis=(0, 1, 2))
    reads = np.abs(ops["project"].kernel).max(axis=(0, 1, 2))
    np.testing.assert_allclose(writes, reads, rtol=0.01)
