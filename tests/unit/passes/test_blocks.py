"""Blocks, block-wise rounding and bias tuning, beside brute force, closed forms and what the graph computes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import tf_keras

from tests.nets import images, mixed_net
from tfq_pipeline.data import Batch, Data
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Weights
from tfq_pipeline.graph.tflite_graph import TfliteGraph
from tfq_pipeline.lowering.lower import lower_float
from tfq_pipeline.passes.bias_tuning import bias_tuning
from tfq_pipeline.passes.block_reconstruct import Layer, Samples, error, reconstruct_blocks
from tfq_pipeline.passes.blocks import blocks_of
from tfq_pipeline.passes.brecq import brecq
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.fisher import squared_gradients
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize

layers = tf_keras.layers


def planned(graph, data, bits):
    request = LayerRequest(Request(bits, True, "channel"), Request(8, False))
    return quantize(graph, calibrate(graph, data, "minmax", 96), lambda *_: request)


@pytest.mark.parametrize("backend", [lambda graph: graph, lambda graph: TfliteGraph.read(lower_float(graph))])
def test_blocks_compute_what_the_graph_does(backend):
    graph = backend(KerasGraph.from_model(mixed_net()).fold_batch_norm())
    found = blocks_of(graph)
    assert sorted(op.name for b in found for op in b.ops.values()) == sorted(op.name for op in graph.linear_ops())
    (residual,) = (b for b in found if b.steps[-1].op == "ADD")
    assert [op.op for op in residual.ops.values()] == ["DEPTHWISE_CONV_2D", "CONV_2D"]
    for block in found:
        weights = {op.name: (op.kernel, 0.0 if op.bias is None else op.bias) for op in block.ops.values()}
        for values in graph.capture(tuple({block.input, block.output}), images()):
            given = block.run(values[block.input], weights)[block.output]
            np.testing.assert_allclose(given, values[block.output], rtol=1e-4, atol=1e-4)


def dense_block(units, bits, seed=0):
    """A chain of dense layers, ReLU between them, and samples of it."""
    tf_keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    x = inputs = tf_keras.Input((2,))
    for i, n in enumerate(units):
        x = layers.Dense(n, "relu" if i + 1 < len(units) else None, bias_initializer="random_normal")(x)
    graph = KerasGraph.from_model(tf_keras.Model(inputs, x))
    values = rng.normal(size=(256, 2)).astype(np.float32)
    data = Data("normal", lambda: iter([Batch((values,))]), 256)
    plan = planned(graph, data, bits)
    (block,) = blocks_of(graph)
    made = {op.name: Layer(op, plan.weights[op.name], op.bias) for op in graph.linear_ops()}
    wanted = graph.run((values,))[0]
    return block, made, Samples(values, wanted, np.ones_like(wanted))


def test_brecq_is_as_good_as_the_best_of_all_roundings():
    block, made, samples = dense_block([2, 2], 3)
    scales = {name: layer.planned.affine.scale[:, None] for name, layer in made.items()}
    floors = {name: np.floor(layer.op.kernel / scales[name]) for name, layer in made.items()}

    def rounded(ups):
        kernels = {
            name: np.clip(floors[name] + np.reshape(up, (2, 2)), -3, 3) * scales[name]
            for (name, up) in zip(made, (ups[:4], ups[4:]), strict=True)
        }
        first, second = made
        hidden = np.maximum(samples.input @ kernels[first].T + made[first].bias, 0.0)
        return np.mean((hidden @ kernels[second].T + made[second].bias - samples.output) ** 2)

    least = min(rounded(ups) for ups in itertools.product((0, 1), repeat=8)) / np.mean(samples.output**2)
    found = brecq(block, made, samples, np.random.default_rng(0), lambda: None, steps=600)
    assert error(block, found, samples) <= 1.2 * least
    for name, layer in found.items():
        assert np.abs(layer.planned.values - layer.op.kernel / scales[name]).max() <= 1.0 + 1e-4, name


def test_brecq_keeps_to_the_grid_of_weights_with_zero_points():
    values = tf_keras.Input((32,))
    tf_keras.utils.set_random_seed(0)
    graph = KerasGraph.from_model(tf_keras.Model(values, layers.Dense(4, bias_initializer="ones")(values)))
    (op,) = graph.linear_ops()
    graph = graph.with_weights({op.name: Weights(np.abs(op.kernel) - np.float32(0.1), op.bias)})
    (op,) = graph.linear_ops()
    plan = quantize(graph, None, lambda *_: LayerRequest(Request(3, False, "group", group_size=16), None))
    (block,) = blocks_of(graph)
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(256, 1)) + 0.2 * rng.normal(size=(256, 32))).astype(np.float32)
    samples = Samples(x, graph.run((x,))[0], np.ones((256, 4), np.float32))
    start = {op.name: Layer(op, plan.weights[op.name], op.bias)}
    found = brecq(block, start, samples, np.random.default_rng(0), lambda: None, steps=300)
    assert error(block, found, samples) < 0.7 * error(block, start, samples)
    affine, chosen = plan.weights[op.name].affine, found[op.name].planned.values.reshape(4, 2, 16)
    scale, zero_point = (v.reshape(4, 2, 1) for v in (affine.scale, affine.zero_point))
    assert np.abs(chosen - zero_point - op.kernel.reshape(4, 2, 16) / scale).max() <= 1.0 + 1e-4


def test_tuned_biases_of_one_layer_are_its_mean_error():
    block, made, samples = dense_block([3], 2)
    shifted = replace(samples, input=samples.input + 1.0, output=samples.output + np.float32([0.5, 0.0, -0.5]))
    (layer,) = made.values()
    (found,) = bias_tuning(block, made, shifted, np.random.default_rng(0), lambda: None).values()
    given = shifted.input @ layer.kernel.T + layer.bias
    np.testing.assert_allclose(found.bias - layer.bias, (shifted.output - given).mean(axis=0), atol=0.05)


def test_blocks_of_a_graph_get_nearer_to_the_float_model():
    graph = KerasGraph.from_model(mixed_net()).fold_batch_norm()
    plan = planned(graph, images(), 3)
    made = reconstruct_blocks(graph, graph, plan, images(), bias_tuning)
    assert len(made.errors) == len(blocks_of(graph))
    assert sum(after for _, after in made.errors.values()) < 0.9 * sum(before for before, _ in made.errors.values())
    assert all(after <= before for before, after in made.errors.values())


def test_squared_slopes_are_the_variance_of_the_answer_at_the_logits():
    inputs = tf_keras.Input((2,))
    outputs = layers.Softmax()(layers.Dense(3, name="logits")(inputs))
    graph = KerasGraph.from_model(tf_keras.Model(inputs, outputs))
    one = np.tile(np.float32([[0.3, -0.7]]), (20_000, 1))
    (found,) = squared_gradients(graph, "logits", Data("one", lambda: iter([Batch((one,))]), len(one)))
    p = graph.run((one[:1],))[0][0]
    np.testing.assert_allclose(found.mean(axis=0), p * (1.0 - p), atol=0.01)
    assert squared_gradients(TfliteGraph.read(lower_float(graph)), "logits", images()) is None
