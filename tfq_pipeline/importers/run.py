"""Runs the original model, of either Keras, on a list of arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def outputs_of(model: Any) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """The model as a function of its inputs in order, giving its outputs flattened."""
    import tensorflow as tf

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.asarray(t) for t in tf.nest.flatten(model(_nest(model, inputs), training=False))]

    return run


def probes_of(model: Any, is_keras3: bool) -> Callable[[Sequence[Any], Sequence[np.ndarray]], list[np.ndarray]]:
    """The values of tensors inside a functional model."""

    def run(tensors: Sequence[Any], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        import keras
        import tf_keras

        package = keras if is_keras3 else tf_keras
        return outputs_of(package.Model(model.inputs, list(tensors)))(inputs)

    return run


def _nest(model: Any, inputs: Sequence[np.ndarray]) -> Any:
    """The inputs in the nest that the model was built with."""
    import tensorflow as tf

    struct = getattr(model, "_inputs_struct", None)
    if struct is None:
        struct = getattr(model, "_nested_inputs", None)
    if struct is None:
        return inputs[0] if len(inputs) == 1 else list(inputs)
    if isinstance(struct, dict):
        return dict(zip(sorted(struct), inputs, strict=True))
    return inputs[0] if not isinstance(struct, list | tuple) else tf.nest.pack_sequence_as(struct, list(inputs))
