"""LSQ+ (Bhalgat et al. 2020, arXiv:2004.09576): activations with a learned offset beside the learned step.

With v = (x - b) / s and integers from n to p the gradient is, by the step, round(v) - v inside, n or p outside; by the
offset 0 inside and 1 outside (equations 4 and 5). The offset counts from the lowest integer here, n = 0, and is rounded
to a whole number of steps, as integers have their zero point; that rounding counts as the identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfq_pipeline.annotate.quantizers.base import ActivationQuantizer
from tfq_pipeline.annotate.quantizers.learned import dot, in_units, learned, positive, positive_array, values_each
from tfq_pipeline.numerics.affine import Affine


def lsq_plus_activation(x: Any, step: Any, offset: Any, bits: int) -> Any:
    """Values on the grid of 2**bits values from about `offset` on, one of which is 0.

    Args:
        x: float32 [batch, ...].
        step, offset: scalars; the offset is the lowest value, moved to the nearest multiple of the step.
        bits: width of the integers.
    """
    levels = 2**bits - 1
    gradient_scale = tf.math.rsqrt(values_each(x) * levels)

    @tf.custom_gradient
    def quantized(x: Any, step: Any, offset: Any) -> Any:
        low = -step * steps_below_zero(step, offset, levels)
        high = low + step * levels
        y = tf.quantization.fake_quant_with_min_max_vars(x, low, high, num_bits=bits)

        def gradient(upstream: Any) -> tuple[Any, Any, Any]:
            by_x, below, above = tf.raw_ops.FakeQuantWithMinMaxVarsGradient(
                gradients=upstream, inputs=x, min=low, max=high, num_bits=bits
            )
            outside = below + above
            by_step = (dot(upstream, y) - dot(by_x, x) - low * outside) / step
            return by_x, by_step * gradient_scale, outside * gradient_scale

        return y, gradient

    return quantized(x, step, offset)


def steps_below_zero(step: Any, offset: Any, levels: int) -> Any:
    """The zero point, counted from the lowest integer."""
    return tf.clip_by_value(tf.floor(-offset / step + 0.5), 0.0, float(levels))


class LSQPlusActivation(ActivationQuantizer):
    """Activations with learned step and offset, for asymmetric ones alone."""

    @property
    def extent(self) -> float:
        """The whole range at the start: the unit of the offset."""
        return self.scale * (2**self.bits - 1)

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        offset = self.lowest * self.scale / self.extent
        return {
            "step": learned(layer, f"{name}_step", (), 1.0),
            "offset": learned(layer, f"{name}_offset", (), offset),
        }

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        step = in_units(positive(weights["step"]), self.scale)
        return lsq_plus_activation(inputs, step, in_units(weights["offset"], self.extent), self.bits)

    def affine(self, variables: Mapping[str, np.ndarray]) -> Affine:
        step = positive_array(variables["step"]) * np.float32(self.scale)
        offset = variables["offset"] * np.float32(self.extent)
        below = int(steps_below_zero(tf.constant(step), tf.constant(offset), 2**self.bits - 1))
        return self.with_scale(step, below - 2 ** (self.bits - 1))
