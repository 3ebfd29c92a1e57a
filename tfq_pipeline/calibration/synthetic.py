"""Calibration data made from the model itself (ZeroQ, Cai 2020, arXiv:2001.00281, section 3.1): inputs that drive every
batch normalization to the mean and deviation that it remembers of the training data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tfq_pipeline.data import Batch, Data
from tfq_pipeline.graph.functional import LayerSpec
from tfq_pipeline.graph.keras_fold import kind
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.keras_layers import BATCH_NORM

# Samples that are moved together: their statistics stand for those of the data.
_BATCH = 64

_RATE = 0.1

# Size of free dimensions.
_FREE = 16


def can_distill(graph: object) -> bool:
    """Whether there are statistics to match and inputs that can be moved: a Keras graph with batch normalization that
    reads floats alone."""
    return (
        isinstance(graph, KerasGraph)
        and bool(graph.batch_norms())
        and all(np.dtype(spec.dtype).kind == "f" for spec in graph.inputs)
    )


def distilled(
    graph: KerasGraph,
    samples: int,
    steps: int = 200,
    limits: tuple[float, float] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[Data, tuple[float, float]]:
    """Inputs, at first normally distributed, moved by Adam until the statistics of a batch are the remembered ones.

    Args:
        graph: one that `can_distill`, with its batch normalizations.
        samples: how many to make.
        steps: of Adam for each batch; its rate falls to 0 by a cosine.
        limits: what input values lie between, where that is known.
        seed: of the first values.
        progress: told the steps done and the total.

    Returns:
        The data, and the loss of the first batch at the beginning and at the end: the mean over channels and layers of
        the squared errors of mean and deviation, in units of the deviation.
    """
    import tensorflow as tf

    net = graph.net
    calls = [call for call in net.calls if not call.is_input and kind(net.layers[call.layer]) == BATCH_NORM]
    wanted = [_statistics(net.layers[call.layer]) for call in calls]
    probe = net.with_outputs([net.reads(call)[0] for call in calls]).build()
    random = tf.random.Generator.from_seed(seed)
    counts = [min(_BATCH, samples - start) for start in range(0, samples, _BATCH)]
    made: list[Batch] = []
    first = last = 0.0
    for done, count in enumerate(counts):
        shapes = [(_BATCH, *(_FREE if n is None else n for n in spec.shape)) for spec in graph.inputs]
        inputs = [tf.Variable(_clipped(tf, random.normal(shape), limits)) for shape in shapes]
        step = _stepper(tf, probe, wanted, inputs, steps, limits)
        for i in range(steps):
            loss = float(step())
            first = loss if done == i == 0 else first
            last = loss if done == 0 else last
            if i % 20 == 0:
                progress(done * steps + i, len(counts) * steps)
        made.append(Batch(tuple(x.numpy()[:count] for x in inputs)))

    def batches() -> Iterator[Batch]:
        return iter(made)

    return Data("synthetic data", batches, samples, {"source": "batch norm statistics", "samples": samples}), (
        first,
        last,
    )


def _statistics(spec: LayerSpec) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean and deviation of each channel, float32 [channels], and the channel axis."""
    mean, variance = spec.weights[-2:]
    axis = spec.config.get("axis", -1)
    deviation = np.sqrt(variance + np.float32(spec.config["epsilon"]))
    return mean, deviation.astype(np.float32), axis if isinstance(axis, int) else axis[0]


def _stepper(
    tf: Any, probe: Any, wanted: Any, inputs: list[Any], steps: int, limits: tuple[float, float] | None
) -> Callable[[], Any]:
    import tf_keras

    optimizer = tf_keras.optimizers.Adam(tf_keras.optimizers.schedules.CosineDecay(_RATE, steps))
    optimizer.build(inputs)

    @tf.function(autograph=False)
    def step() -> Any:
        with tf.GradientTape() as tape:
            values = tf.nest.flatten(probe(inputs[0] if len(inputs) == 1 else inputs, training=False))
            losses = []
            for value, (mean, deviation, axis) in zip(values, wanted, strict=True):
                axes = [a for a in range(value.shape.rank) if a != axis % value.shape.rank]
                found, variance = tf.nn.moments(value, axes)
                errors = tf.square((found - mean) / deviation)
                # The square root's slope at 0 is infinite.
                errors += tf.square(tf.sqrt(variance + 1e-6 * deviation**2) / deviation - 1.0)
                losses.append(tf.reduce_mean(errors))
            loss = tf.add_n(losses) / len(losses)
        optimizer.apply_gradients(zip(tape.gradient(loss, inputs), inputs, strict=True))
        for x in inputs:
            x.assign(_clipped(tf, x, limits))
        return loss

    return step


def _clipped(tf: Any, x: Any, limits: tuple[float, float] | None) -> Any:
    return x if limits is None else tf.clip_by_value(x, *limits)
