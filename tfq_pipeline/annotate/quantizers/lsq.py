"""Learned step size quantization (Esser et al. 2020, arXiv:1902.08153): the step is a parameter like any other.

With v = x / s and integers from -n to p, the gradient of the quantized value is, by the step,

    round(v) - v   where -n < v < p,   -n where v <= -n,   p where v >= p     (equation 3)

times 1 / sqrt(N p), N the values that share the step (section 2.2); by x it is 1 inside and 0 outside (equation 5).
Steps start as the plan has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfq_pipeline.annotate.quantizers.base import ActivationQuantizer, Variables, WeightQuantizer, round_half_away
from tfq_pipeline.annotate.quantizers.learned import dot, in_units, learned, positive, positive_array, values_each
from tfq_pipeline.numerics.affine import Affine


def lsq(x: Any, step: Any, top: float, shared: list[int], gradient_scale: float) -> Any:
    """Values rounded to `step` times the integers from -top to top.

    Args:
        x: float32.
        step: of the rank of `x`, 1 along the axes that share a step.
        top: n and p.
        shared: these axes.
        gradient_scale: what the gradient of the step is multiplied by.
    """

    @tf.custom_gradient
    def quantized(x: Any, step: Any) -> Any:
        v = x / step
        rounded = round_half_away(tf.clip_by_value(v, -top, top))

        def gradient(upstream: Any) -> tuple[Any, Any]:
            inside = tf.cast(tf.abs(v) < top, v.dtype)
            by_step = tf.reduce_sum(upstream * (rounded - v * inside), shared, keepdims=True)
            return upstream * inside, by_step * gradient_scale

        return rounded * step, gradient

    return quantized(x, step)


def lsq_activation(x: Any, step: Any, lowest: int, highest: int, bits: int) -> Any:
    """`lsq` with one step through TensorFlow's fused kernels.

    The gradient by the step is that above: a quantized value is s round(v) inside, s times a bound outside, so that
    what equation 3 sums is (quantized - x) / s inside and quantized / s outside.

    Args:
        x: float32 [batch, ...].
        step: scalar.
        lowest, highest: integers; one of them may be 0.
        bits: width of the integers.
    """
    gradient_scale = tf.math.rsqrt(values_each(x) * max(highest, -lowest))

    @tf.custom_gradient
    def quantized(x: Any, step: Any) -> Any:
        low, high = lowest * step, highest * step
        y = tf.quantization.fake_quant_with_min_max_vars(x, low, high, num_bits=bits)

        def gradient(upstream: Any) -> tuple[Any, Any]:
            by_x, _, _ = tf.raw_ops.FakeQuantWithMinMaxVarsGradient(
                gradients=upstream, inputs=x, min=low, max=high, num_bits=bits
            )
            return by_x, (dot(upstream, y) - dot(by_x, x)) / step * gradient_scale

        return y, gradient

    return quantized(x, step)


class LSQWeights(WeightQuantizer):
    """Weights with learned steps."""

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {"step": learned(layer, f"{name}_step", self.start.shape, 1.0)}

    def scale(self, kernel: Any, variables: Variables) -> Any:
        return in_units(positive(variables["step"]), self.start)

    def quantized(self, kernel: Any, variables: Variables) -> Any:
        gradient_scale = 1.0 / math.sqrt(math.prod(self.view) / self.start.size * self.top)
        return lsq(kernel, self.scale(kernel, variables), self.top, self.shared, gradient_scale)


class LSQActivation(ActivationQuantizer):
    """Activations with a learned step and the plan's zero point: that of a tensor after a ReLU is the lowest integer,
    which is the paper's unsigned case."""

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {"step": learned(layer, f"{name}_step", (), 1.0)}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        step = in_units(positive(weights["step"]), self.scale)
        return lsq_activation(inputs, step, self.lowest, self.highest, self.bits)

    def affine(self, variables: Mapping[str, np.ndarray]) -> Affine:
        return self.with_scale(positive_array(variables["step"]) * np.float32(self.scale), self.zero_point)
