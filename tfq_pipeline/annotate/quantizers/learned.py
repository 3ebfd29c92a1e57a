"""Parameters that are learned: kept in units of what they start from, so that one learning rate fits all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

# A learned step stays above this share of its start: at 0 it would have neither value nor gradient.
_LEAST_RATIO = 2.0**-10


def learned(
    layer: Any,
    name: str,
    shape: tuple[int, ...],
    ratio: float,
    penalty: Callable[[Any], Any] | None = None,
    constraint: Callable[[Any], Any] | None = None,
) -> Any:
    """A trainable ratio, see `in_units`.

    Args:
        layer: that owns it.
        name: of the variable.
        shape: of the ratio.
        ratio: that it starts at.
        penalty: what the ratio adds to the loss.
        constraint: what becomes of the ratio after each step.
    """
    start = tf_keras.initializers.Constant(ratio)
    return layer.add_weight(
        name, shape=shape, initializer=start, regularizer=penalty, constraint=constraint, trainable=True
    )


def in_units(ratio: Any, unit: Any) -> Any:
    """ratio * unit, where the gradient of the ratio is that of the product divided by the unit.

    A step of SGD then moves the product as if it were the variable itself, as papers have it; a step of Adam, whose
    size is that of the learning rate whatever the gradient, moves it by so many times the unit.
    """

    @tf.custom_gradient
    def scaled(ratio: Any) -> Any:
        return ratio * unit, lambda upstream: upstream / unit

    return scaled(tf.convert_to_tensor(ratio))


def positive(ratio: Any) -> Any:
    """A ratio kept above 0; the gradient passes, so that it can grow again."""
    return ratio + tf.stop_gradient(tf.maximum(ratio, _LEAST_RATIO) - ratio)


def positive_array(ratio: np.ndarray) -> np.ndarray:
    """`positive` of an array."""
    return np.maximum(ratio, np.float32(_LEAST_RATIO))


def values_each(x: Any) -> Any:
    """Values of one sample of a batch [batch, ...], float32."""
    known = x.shape[1:].num_elements()
    return float(known) if known else tf.cast(tf.size(x) // tf.maximum(tf.shape(x)[0], 1), tf.float32)


def dot(a: Any, b: Any) -> Any:
    """Sum of the products of two tensors of one shape, as a product of rows: several times faster than `tensordot`."""
    return tf.reshape(tf.matmul(tf.reshape(a, [1, -1]), tf.reshape(b, [1, -1]), transpose_b=True), [])
