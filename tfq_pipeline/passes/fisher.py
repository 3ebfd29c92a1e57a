"""The diagonal of the Fisher information of a tensor: how much each of its values matters to the answer (Li 2021,
section 3.3). Labels are drawn from what the model itself answers, so that no others are needed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tfq_pipeline.data import Data
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Graph


def squared_gradients(graph: Graph, name: str, data: Data, seed: int = 0) -> Iterator[np.ndarray] | None:
    """Streams the squared slope of log p(class) in the values of a tensor, float32 [batch, ...], one array a batch.

    Args:
        graph: a classifier.
        name: of the tensor.
        data: samples.
        seed: of the classes that are drawn.

    Returns:
        None for a graph without gradients (a .tflite) or without one output of classes.
    """
    if not isinstance(graph, KerasGraph):
        return None
    net = graph.before_fixed_outputs().net
    ends = [net.call(ref).shapes[ref.output] for ref in net.outputs]
    calls = [call for call in net.calls if call.layer == name]
    if len(ends) != 1 or len(ends[0]) != 2 or (ends[0][1] or 0) < 2 or len(calls) != 1:
        return None
    return _stream(graph, name, data, seed)


def _stream(graph: KerasGraph, name: str, data: Data, seed: int) -> Iterator[np.ndarray]:
    import tensorflow as tf

    from tfq_pipeline.graph.functional import TensorRef

    net = graph.before_fixed_outputs().net
    (call,) = (call for call in net.calls if call.layer == name)
    probe = net.with_outputs([TensorRef(call.id), *net.outputs]).build()
    random = tf.random.Generator.from_seed(seed)

    @tf.function(reduce_retracing=True, autograph=False)
    def squared(*inputs: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value, logits = probe(inputs[0] if len(inputs) == 1 else list(inputs), training=False)
            drawn = tf.argmax(logits - tf.math.log(-tf.math.log(random.uniform(tf.shape(logits), 1e-12, 1.0))), axis=-1)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.stop_gradient(drawn), logits)
        return tf.square(tape.gradient(loss, value))

    for batch in data:
        yield squared(*[tf.convert_to_tensor(x) for x in batch.inputs]).numpy()
