"""TFMOT quantizers that take their numbers from a Plan. Kernels are in Keras layout here.

Both are straight-through: forward the quantized value, backward the identity inside the range (Bengio et al. 2013).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.quantization.keras import quantizers


def channel_axes(rank: int, kind: str) -> tuple[int, ...]:
    """Axes of the output channels of a Keras kernel; the others are reduced over for a range per channel."""
    return {"DepthwiseConv2D": (rank - 2, rank - 1), "Conv2DTranspose": (rank - 2,)}.get(kind, (rank - 1,))


@tf_keras.utils.register_keras_serializable(package="tfq")
class SymmetricWeights(quantizers.Quantizer):
    """Symmetric narrow-range weights with the range of the values themselves (min-max), at every step anew.

    Args:
        bits: 2 to 8.
        kept_axes: axes with a scale for each entry; () for one scale for the tensor.
    """

    def __init__(self, bits: int, kept_axes: tuple[int, ...]) -> None:
        self.bits = bits
        self.kept_axes = tuple(kept_axes)

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        reduced = [axis for axis in range(len(inputs.shape)) if axis not in self.kept_axes]
        top = float(2 ** (self.bits - 1) - 1)
        largest = tf.reduce_max(tf.abs(tf.stop_gradient(inputs)), axis=reduced, keepdims=True)
        scale = tf.where(largest > 0, largest / top, tf.ones_like(largest))
        steps = tf.stop_gradient(inputs) / scale
        rounded = tf.sign(steps) * tf.floor(tf.abs(steps) + 0.5)
        return inputs + tf.stop_gradient(tf.clip_by_value(rounded, -top, top) * scale - inputs)

    def get_config(self) -> dict[str, Any]:
        return {"bits": self.bits, "kept_axes": list(self.kept_axes)}


@tf_keras.utils.register_keras_serializable(package="tfq")
class ActivationRange(quantizers.Quantizer):
    """Activations on the grid of a range that the plan starts and training follows with a moving average.

    Args:
        bits: 8 (16 is symmetric and needs no zero point).
        low, high: the range to start from, real values of the lowest and highest integer.
        symmetric: keeps low = -high * (qmin / qmax) while the range moves.
        momentum: share of the old range that stays at each training step; 1.0 freezes it.
    """

    def __init__(self, bits: int, low: float, high: float, symmetric: bool, momentum: float) -> None:
        self.bits, self.low, self.high, self.symmetric, self.momentum = bits, low, high, symmetric, momentum

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        def variable(suffix: str, value: float) -> Any:
            return layer.add_weight(
                f"{name}_{suffix}", initializer=tf_keras.initializers.Constant(value), trainable=False
            )

        return {"min_var": variable("min", self.low), "max_var": variable("max", self.high)}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        low, high = weights["min_var"], weights["max_var"]
        if training and self.momentum < 1.0:
            seen_low = tf.minimum(tf.reduce_min(inputs), 0.0)
            seen_high = tf.maximum(tf.reduce_max(inputs), 0.0)
            if self.symmetric:
                seen_high = tf.maximum(seen_high, -seen_low)
                top = 2.0 ** (self.bits - 1)
                seen_low = -seen_high * top / (top - 1.0)
            low.assign(self.momentum * low + (1.0 - self.momentum) * seen_low)
            high.assign(self.momentum * high + (1.0 - self.momentum) * seen_high)
        return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high, num_bits=self.bits)

    def get_config(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "low": self.low,
            "high": self.high,
            "symmetric": self.symmetric,
            "momentum": self.momentum,
        }
