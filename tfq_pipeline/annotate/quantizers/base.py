"""What every quantizer of ours has. Kernels are in Keras layout here.

Gradients are straight-through (Bengio et al. 2013): rounding counts as the identity, clipping as what it is.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from tensorflow_model_optimization.quantization.keras import quantizers

from tfq_pipeline.numerics.affine import Affine

Variables = Mapping[str, Any]


class WeightQuantizer(quantizers.Quantizer):
    """Symmetric narrow-range weights.

    Args:
        bits: 2 to 8.
        view: the shape that the kernel is seen in.
        start: the scales to start from, nested lists whose shape broadcasts over `view`.

    Attributes:
        has_zero: whether a weight of 0 stays 0.
    """

    has_zero: ClassVar[bool] = True

    def __init__(self, bits: int, view: list[int], start: Any) -> None:
        self.bits, self.view = bits, [int(n) for n in view]
        self.start = np.asarray(start, np.float32)

    @classmethod
    def starting(cls, bits: int, kernel: np.ndarray, start: np.ndarray) -> WeightQuantizer:
        """The quantizer that gives the integers of these scales at first.

        Args:
            bits: 2 to 8.
            kernel: in the shape that it is seen in.
            start: of a shape that broadcasts over it.
        """
        return cls(bits, list(kernel.shape), start)

    @property
    def top(self) -> float:
        """The highest integer."""
        return float(2 ** (self.bits - 1) - 1)

    @property
    def shared(self) -> list[int]:
        """Axes of the view along which a scale is one."""
        return shared_axes(self.start)

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        del tensor_shape, name, layer
        return {}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        del training, kwargs
        seen = tf.reshape(inputs, self.view)
        return tf.reshape(self.quantized(seen, weights), tf.shape(inputs))

    @abc.abstractmethod
    def quantized(self, kernel: Any, variables: Variables) -> Any:
        """The kernel on its grid, in the shape that it is seen in."""
        ...

    @abc.abstractmethod
    def scale(self, kernel: Any, variables: Variables) -> Any:
        """The scales in use, of the shape of `start`."""
        ...

    def width(self, variables: Variables) -> int:
        """The bits in use."""
        del variables
        return self.bits

    def integers(self, kernel: np.ndarray, variables: Variables) -> np.ndarray | None:
        """The integers in use, of the shape that the kernel is seen in; None where they are the nearest."""
        del kernel, variables
        return None

    def get_config(self) -> dict[str, Any]:
        return {"bits": self.bits, "view": self.view, "start": self.start.tolist()}


def shared_axes(scales: np.ndarray) -> list[int]:
    """Axes along which a scale is one."""
    return [axis for axis, n in enumerate(scales.shape) if n == 1]


class ActivationQuantizer(quantizers.Quantizer):
    """Activations with one scale, starting from a plan's parameters.

    Args:
        bits: 2 to 16.
        scale, zero_point: the plan's.
        symmetric: whether the zero point is 0 by request.
    """

    def __init__(self, bits: int, scale: float, zero_point: int, symmetric: bool) -> None:
        self.bits, self.scale, self.zero_point, self.symmetric = bits, float(scale), int(zero_point), symmetric

    @property
    def lowest(self) -> int:
        """Steps from 0 to the lowest value, 0 or negative."""
        return -(2 ** (self.bits - 1)) - self.zero_point

    @property
    def highest(self) -> int:
        """Steps from 0 to the highest value."""
        return 2 ** (self.bits - 1) - 1 - self.zero_point

    @abc.abstractmethod
    def affine(self, variables: Mapping[str, np.ndarray]) -> Affine:
        """The parameters that training ended with.

        Args:
            variables: what `build` made, as arrays.
        """
        ...

    def with_scale(self, scale: Any, zero_point: int) -> Affine:
        """`Affine` with one scale."""
        step = np.asarray(scale, np.float32).reshape(1)
        return Affine(self.bits, step, np.array([zero_point], np.int32), None, self.symmetric, False)

    def get_config(self) -> dict[str, Any]:
        return {"bits": self.bits, "scale": self.scale, "zero_point": self.zero_point, "symmetric": self.symmetric}


def round_half_away(x: Any) -> Any:
    """Rounding as the numerics have it; without a gradient."""
    return tf.sign(x) * tf.floor(tf.abs(x) + 0.5)
