"""Stretched elastic quantization (Liu 2025, ParetoQ, arXiv:2502.02631): 2**bits values with a learned step and no 0.

The grids of few bits are even around 0, of 2 bits -3, -1, 1 and 3 times half a step, where those that have a 0 are of
three values. With v = w / h, h half a step, and integers up to p = 2**bits - 1, the gradient of the quantized value is,
as of LSQ, by half the step

    q - v   where -p - 1 < v < p + 1,   -p or p outside

times 1 / sqrt(N p), N the values that share it; by w it is 1 inside and 0 outside. A value is clipped at the end of the
outermost cell, which is as wide as the others. Half the step starts where the squared error is least.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfq_pipeline.annotate.quantizers.base import Variables, WeightQuantizer, shared_axes
from tfq_pipeline.annotate.quantizers.learned import in_units, learned, positive

# Shares of the largest magnitude that are tried as the start of the highest value.
_TRIED = np.linspace(0.2, 1.0, 81)


def odd(v: Any, top: float) -> Any:
    """The nearest odd integers from -top to top; halfway between two the higher one."""
    return tf.clip_by_value(2.0 * tf.floor(v / 2.0) + 1.0, -top, top)


def seq(w: Any, half: Any, top: float, shared: list[int], gradient_scale: float) -> Any:
    """Values rounded to `half` times the odd integers from -top to top.

    Args:
        w: float32.
        half: of the rank of `w`, 1 along the axes that share a step.
        top: the highest integer, odd.
        shared: these axes.
        gradient_scale: what the gradient of `half` is multiplied by.
    """

    @tf.custom_gradient
    def quantized(w: Any, half: Any) -> Any:
        v = w / half
        integers = odd(v, top)

        def gradient(upstream: Any) -> tuple[Any, Any]:
            inside = tf.cast(tf.abs(v) < top + 1.0, v.dtype)
            by_half = tf.reduce_sum(upstream * (integers - v * inside), shared, keepdims=True)
            return upstream * inside, by_half * gradient_scale

        return integers * half, gradient

    return quantized(w, half)


class SEQWeights(WeightQuantizer):
    """Weights of 2 or 3 bits without a 0. Files hold the odd integers, which take one bit more."""

    has_zero: ClassVar[bool] = False

    @classmethod
    def starting(cls, bits: int, kernel: np.ndarray, start: np.ndarray) -> SEQWeights:
        axes = tuple(shared_axes(start))
        top = float(2**bits - 1)
        largest = np.abs(kernel).max(axis=axes, keepdims=True)
        unit = np.where(largest > 0, largest, start).astype(np.float32)
        best, least = unit / top, np.full(start.shape, np.inf)
        for share in _TRIED:
            half = (unit * (share / top)).astype(np.float32)
            integers = np.clip(2.0 * np.floor(kernel / half / 2.0) + 1.0, -top, top)
            error = np.square(integers * half - kernel).sum(axis=axes, keepdims=True)
            best, least = np.where(error < least, half, best), np.minimum(error, least)
        return cls(bits, list(kernel.shape), best)

    @property
    def top(self) -> float:
        return float(2**self.bits - 1)

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {"step": learned(layer, f"{name}_step", self.start.shape, 1.0)}

    def scale(self, kernel: Any, variables: Variables) -> Any:
        return in_units(positive(variables["step"]), self.start)

    def quantized(self, kernel: Any, variables: Variables) -> Any:
        gradient_scale = 1.0 / math.sqrt(math.prod(self.view) / self.start.size * self.top)
        return seq(kernel, self.scale(kernel, variables), self.top, self.shared, gradient_scale)

    def width(self, variables: Variables) -> int:
        return self.bits + 1

    def integers(self, kernel: np.ndarray, variables: Variables) -> np.ndarray | None:
        return np.asarray(odd(kernel / self.scale(kernel, variables), self.top)).astype(np.int8)
