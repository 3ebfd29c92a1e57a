"""One trace for all tensors and weights gives what a model built anew gives, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras

from tests.nets import images, mixed_net
from tfq_pipeline.data import Batch, Data
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.functional import TensorRef
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Weights

layers = tf_keras.layers


def built_anew(graph: KerasGraph, name: str, x: np.ndarray) -> np.ndarray:
    (call,) = (call for call in graph.net.calls if call.layer == name)
    model = graph.net.with_outputs([TensorRef(call.id)]).build()
    return model.predict_on_batch(x)


def halved(graph: KerasGraph, name: str, bias: np.ndarray | None) -> KerasGraph:
    op = next(op for op in graph.linear_ops() if op.name == name)
    return graph.with_weights({name: Weights(op.kernel / 2, bias)})


def test_graphs_that_share_a_trace_run_in_turn_with_their_own_weights():
    before = KerasGraph.from_model(mixed_net()).fold_batch_norm()
    after = halved(before, "depthwise", np.linspace(-1, 1, 8, dtype=np.float32))
    later = halved(after, "side", np.ones(4, np.float32))
    graphs = (before, after, later)
    for name in ("depthwise", "join", "image", "logits"):
        streams = [graph.capture([name], images(20)) for graph in graphs]
        for batch, *found in zip(images(20), *streams, strict=True):
            for graph, values in zip(graphs, found, strict=True):
                np.testing.assert_array_equal(values[name], built_anew(graph, name, batch.inputs[0]))
    x = next(iter(images(20))).inputs[0]
    assert not np.array_equal(before.run([x])[0], later.run([x])[0])


def test_a_layer_that_gains_a_bias_is_another_model():
    image = tf_keras.Input((6, 6, 2), name="image")
    x = layers.Conv2D(3, 3, use_bias=False, name="bare")(image)
    before = KerasGraph.from_model(tf_keras.Model(image, layers.Dense(2, name="last")(x)))
    after = halved(before, "bare", np.array([1, 2, 3], np.float32))
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype(np.float32)
    np.testing.assert_allclose(after.run([x])[0], built_anew(after, "last", x), rtol=1e-6)
    np.testing.assert_allclose(before.run([x])[0], built_anew(before, "last", x), rtol=1e-6)


def test_tensors_that_hang_on_one_of_several_inputs():
    left, right = tf_keras.Input((4,), name="left"), tf_keras.Input((3,), name="right")
    a, b = layers.Dense(2, name="a")(left), layers.Dense(2, name="b")(right)
    graph = KerasGraph.from_model(tf_keras.Model([left, right], layers.Add(name="sum")([a, b])))
    rng = np.random.default_rng(1)
    x = tuple(rng.normal(size=(5, n)).astype(np.float32) for n in (4, 3))
    (found,) = graph.capture(["a", "right"], Data("two", lambda: iter([Batch(x)]), 5))
    kernel = {op.name: op.kernel.T for op in graph.linear_ops()}
    np.testing.assert_allclose(found["a"], x[0] @ kernel["a"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["right"], x[1])
    np.testing.assert_allclose(graph.run(x)[0], x[0] @ kernel["a"] + x[1] @ kernel["b"], rtol=1e-5, atol=1e-6)


def test_inputs_of_another_shape_are_named():
    graph = KerasGraph.from_model(mixed_net())
    with pytest.raises(
        BadInput, match=r"input 'image': found shape \(2, 9, 9, 3\), the model reads \(None, 12, 12, 3\)"
    ):
        graph.run([np.zeros((2, 9, 9, 3), np.float32)])
