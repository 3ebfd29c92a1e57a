"""Calibration data made from the model itself: inputs that drive every batch normalization to the mean and deviation
that it remembers of the training data (ZeroQ, Cai 2020, arXiv:2001.00281, section 3.1), and that a classifier sorts
into all of its classes (DeepInversion, Yin 2020, arXiv:1912.08795, section 3.1).

Statistics alone let every input be the same mixture of classes: behind the last batch normalization, after pooling say,
nothing tells inputs apart, and the answers calibrate to a part of their range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfq_pipeline.data import Batch, Data
from tfq_pipeline.graph.functional import LayerSpec, TensorRef
from tfq_pipeline.graph.keras_fold import kind
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.keras_layers import BATCH_NORM

# Samples that are moved together: their statistics stand for those of the data.
_BATCH = 64

_RATE = 0.1

# Size of free dimensions.
_FREE = 16


@dataclass(frozen=True, eq=False)
class Distilled:
    """What `distilled` made.

    Attributes:
        data: the inputs.
        statistics: of the first batch, at the beginning and at the end: the mean over channels and layers of the
            squared errors of mean and deviation, in units of the deviation.
        cross_entropy: the same of its answers and the classes they should be, in nats; None without a classifier.
    """

    data: Data
    statistics: tuple[float, float]
    cross_entropy: tuple[float, float] | None


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
    classes: float = 0.1,
) -> Distilled:
    """Inputs, at first normally distributed, moved by Adam until the statistics of a batch are the remembered ones and
    each is answered by the class that was drawn for it.

    Args:
        graph: one that `can_distill`, with its batch normalizations.
        samples: how many to make.
        steps: of Adam for each batch; its rate falls to 0 by a cosine.
        limits: what input values lie between, where that is known.
        seed: of the first values, and of the order in which classes are drawn, all equally often.
        progress: told the steps done and the total.
        classes: weight of the cross entropy beside the statistics, for outputs [batch, classes]; models without one are
            moved by the statistics alone.
    """
    import tensorflow as tf

    net = graph.net
    calls = [call for call in net.calls if not call.is_input and kind(net.layers[call.layer]) == BATCH_NORM]
    wanted = [_statistics(net.layers[call.layer]) for call in calls]
    answers = _class_outputs(graph) if classes else []
    probe = net.with_outputs([*(net.reads(call)[0] for call in calls), *(ref for ref, _ in answers)]).build()
    random = tf.random.Generator.from_seed(seed)
    drawn = [_even(np.random.default_rng(seed), count, samples) for _, count in answers]
    starts = range(0, samples, _BATCH)
    made: list[Batch] = []
    losses: list[np.ndarray] = []
    for start in starts:
        shapes = [(_BATCH, *(_FREE if n is None else n for n in spec.shape)) for spec in graph.inputs]
        inputs = [tf.Variable(_clipped(tf, random.normal(shape), limits)) for shape in shapes]
        labels = [of[start : start + _BATCH] for of in drawn]
        step = _stepper(tf, probe, wanted, labels, classes, inputs, steps, limits)
        for i in range(steps):
            loss = step().numpy()
            if start == 0:
                losses.append(loss)
            if i % 20 == 0:
                progress(len(made) * steps + i, len(starts) * steps)
        made.append(Batch(tuple(x.numpy()[: samples - start] for x in inputs)))

    (first_statistics, first_entropy), (last_statistics, last_entropy) = losses[0].tolist(), losses[-1].tolist()
    return Distilled(
        Data("synthetic data", lambda: iter(made), samples, {"source": "batch norm statistics", "samples": samples}),
        (first_statistics, last_statistics),
        (first_entropy, last_entropy) if answers else None,
    )


def _class_outputs(graph: KerasGraph) -> list[tuple[TensorRef, int]]:
    """Outputs that choose between classes, before their softmax, with the number of classes."""
    net = graph.before_fixed_outputs().net
    shapes = [(ref, net.call(ref).shapes[ref.output]) for ref in net.outputs]
    return [(ref, shape[1] or 0) for ref, shape in shapes if len(shape) == 2 and (shape[1] or 0) > 1]


def _even(rng: np.random.Generator, classes: int, samples: int) -> np.ndarray:
    """Labels int32 [samples, rounded up to whole batches]: all classes in a random order, again and again."""
    count = -(-samples // _BATCH) * _BATCH
    return np.concatenate([rng.permutation(classes) for _ in range(-(-count // classes))])[:count].astype(np.int32)


def _statistics(spec: LayerSpec) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean and deviation of each channel, float32 [channels], and the channel axis."""
    mean, variance = spec.weights[-2:]
    axis = spec.config.get("axis", -1)
    deviation = np.sqrt(variance + np.float32(spec.config["epsilon"]))
    return mean, deviation.astype(np.float32), axis if isinstance(axis, int) else axis[0]


def _stepper(
    tf: Any,
    probe: Any,
    wanted: list[tuple[np.ndarray, np.ndarray, int]],
    labels: list[np.ndarray],
    classes: float,
    inputs: list[Any],
    steps: int,
    limits: tuple[float, float] | None,
) -> Callable[[], Any]:
    """One step of Adam on `inputs`, giving its two losses, float32 [2]: statistics and cross entropy."""
    import tf_keras

    optimizer = tf_keras.optimizers.Adam(tf_keras.optimizers.schedules.CosineDecay(_RATE, steps))
    optimizer.build(inputs)

    @tf.function(autograph=False)
    def step() -> Any:
        with tf.GradientTape() as tape:
            values = tf.nest.flatten(probe(inputs[0] if len(inputs) == 1 else inputs, training=False))
            statistics = tf.add_n(
                [_distance(tf, *pair) for pair in zip(values[: len(wanted)], wanted, strict=True)]
            ) / len(wanted)
            entropies = [
                tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
                for y, logits in zip(labels, values[len(wanted) :], strict=True)
            ]
            entropy = tf.add_n(entropies) / len(entropies) if entropies else tf.constant(0.0)
            loss = statistics + classes * entropy
        optimizer.apply_gradients(zip(tape.gradient(loss, inputs), inputs, strict=True))
        for x in inputs:
            x.assign(_clipped(tf, x, limits))
        return tf.stack([statistics, entropy])

    return step


def _distance(tf: Any, value: Any, wanted: tuple[np.ndarray, np.ndarray, int]) -> Any:
    """How far a batch's statistics are from the remembered ones, a scalar."""
    mean, deviation, axis = wanted
    found, variance = tf.nn.moments(value, [a for a in range(value.shape.rank) if a != axis % value.shape.rank])
    errors = tf.square((found - mean) / deviation)
    # The square root's slope at 0 is infinite.
    errors += tf.square(tf.sqrt(variance + 1e-6 * deviation**2) / deviation - 1.0)
    return tf.reduce_mean(errors)


def _clipped(tf: Any, x: Any, limits: tuple[float, float] | None) -> Any:
    return x if limits is None else tf.clip_by_value(x, *limits)
