"""Distillation: the float model teaches its quantized self, by its logits (Hinton 2015, arXiv:1503.02531) and by what
chosen layers write (Romero 2015, arXiv:1412.6550)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.functional import TensorRef
from tfq_pipeline.graph.keras_graph import KerasGraph

# Names of the outputs that the losses belong to.
TASK, TEACHER = "task", "teacher"


@dataclass(frozen=True)
class Distillation:
    """What the teacher has a say in.

    Attributes:
        weight: share of the teacher's logits in the loss, 0 to 1; labels have the rest.
        temperature: that logits are divided by.
        features: layers whose outputs should be the teacher's.
        feature_weight: of the squared error of each, over the variance of the teacher's.
    """

    weight: float = 0.5
    temperature: float = 4.0
    features: tuple[str, ...] = ()
    feature_weight: float = 1.0


def lesson(teacher: KerasGraph, features: Sequence[str]) -> Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]:
    """What the teacher says of a batch, as a function of its inputs: its logits, and what layers write, by output.

    Raises:
        BadInput: for a layer that is not in the model, or is called more than once.
    """
    net = teacher.before_fixed_outputs().net
    refs = []
    for name in features:
        calls = [call for call in net.calls if call.layer == name]
        if len(calls) != 1:
            found = "no layer of the folded model" if not calls else f"called {len(calls)} times"
            raise BadInput(f"recipe: qat: distil: features: '{name}': {found}; name a layer that is called once")
        refs.append(TensorRef(calls[0].id))
    graph = KerasGraph(net.with_outputs([*net.outputs, *refs]))

    def said(inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip((TEACHER, *map(feature, features)), graph.run(inputs), strict=True))

    return said


def feature(layer: str) -> str:
    """Name of the output that a layer's loss belongs to."""
    return f"feature_{layer}"


def logits_loss(classes: bool, binary: bool, temperature: float) -> Callable[[Any, Any], Any]:
    """Loss of logits against the teacher's, [batch].

    T^2 times the divergence of the student's distribution from the teacher's, both at temperature T (Hinton 2015,
    section 2.1, whose factor keeps the size of the gradient); the squared error where there are no classes.
    """
    import tensorflow as tf

    def squared(wanted: Any, got: Any) -> Any:
        return tf.reduce_mean(tf.square(wanted - got), axis=-1)

    def distribution(logits: Any) -> Any:
        pair = tf.concat([logits, tf.zeros_like(logits)], -1) if binary else logits
        return tf.nn.log_softmax(pair / temperature)

    def divergence(wanted: Any, got: Any) -> Any:
        p, q = distribution(wanted), distribution(got)
        return temperature**2 * tf.reduce_sum(tf.exp(p) * (p - q), axis=-1)

    return divergence if classes else squared


def feature_loss(wanted: Any, got: Any) -> Any:
    """Squared error over the teacher's variance in the batch, [batch]."""
    import tensorflow as tf

    error = tf.reduce_mean(tf.square(wanted - got), axis=list(range(1, len(got.shape))))
    return error / (tf.math.reduce_variance(wanted) + 1e-12)
