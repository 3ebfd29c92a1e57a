"""Fractional bit-widths (Yang and Jin 2021, FracBits, arXiv:2007.02017): bits that are learned by gradient.

Weights lie between what two neighbouring widths make of them, Q = (1 - f) Q_low + f Q_high, so that the gradient by f
is the sum of upstream (Q_high - Q_low). Neighbours are those among the widths that a file can hold, where the paper has
whole numbers: a position counts them, 0 the narrowest. Each width has a learned step of its own (LSQ), which starts
where the squared error is least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfq_pipeline.annotate.quantizers.base import Variables, WeightQuantizer
from tfq_pipeline.annotate.quantizers.learned import in_units, learned, positive
from tfq_pipeline.annotate.quantizers.lsq import lsq
from tfq_pipeline.calibration.mse import row_ranges


class FractionalWeights(WeightQuantizer):
    """Weights between two widths.

    Args:
        bits: of `widths`, the one to start at.
        view: the shape that the kernel is seen in.
        start: scales of each width, [widths, ...] with the rest broadcasting over `view`.
        widths: bits, ascending, two or more.
        pace: positions that Adam moves in a step of learning rate 1.
    """

    def __init__(self, bits: int, view: list[int], start: Any, widths: Sequence[int], pace: float) -> None:
        self.starts = np.asarray(start, np.float32)
        self.widths, self.pace = tuple(widths), float(pace)
        super().__init__(bits, view, self.starts[self.widths.index(bits)])

    @classmethod
    def between(
        cls, widths: Sequence[int], bits: int, kernel: np.ndarray, start: np.ndarray, pace: float
    ) -> FractionalWeights:
        """The quantizer that gives the plan's integers at first, or those of the width that is nearest to the plan's.

        Args:
            widths: bits, ascending.
            bits: the plan's.
            kernel: in the shape that it is seen in.
            start: the plan's scales, of a shape that broadcasts over it.
            pace: see the class.
        """
        nearest = min(widths, key=lambda width: abs(width - bits))
        kept = [axis for axis, n in enumerate(start.shape) if n != 1]
        shared = [axis for axis in range(kernel.ndim) if axis not in kept]
        rows = kernel.transpose(kept + shared).reshape(start.size, -1)

        def scales(width: int) -> np.ndarray:
            if width == bits:
                return start
            found = row_ranges(rows, width, symmetric=True)[1].reshape(start.shape) / np.float32(2 ** (width - 1) - 1)
            return np.where(found > 0, found, start)

        return cls(nearest, list(kernel.shape), np.stack([scales(width) for width in widths]), widths, pace)

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        last = len(self.widths) - 1
        return {
            "step": learned(layer, f"{name}_step", self.starts.shape, 1.0),
            "position": learned(
                layer,
                f"{name}_position",
                (),
                self.widths.index(self.bits) / self.pace,
                constraint=lambda ratio: tf.clip_by_value(ratio, 0.0, last / self.pace),
            ),
        }

    def position(self, variables: Variables) -> Any:
        """Where it lies among the widths, from 0 to the last one's number."""
        return in_units(variables["position"], self.pace)

    def placed(self, position: float) -> float:
        """The value of the variable "position" at a position."""
        return position / self.pace

    def shares(self, variables: Variables) -> Any:
        """Share of each width in the weights, [widths]: 0 for all but two neighbours, whose sum is 1."""
        position = self.position(variables)
        low = tf.clip_by_value(tf.floor(position), 0.0, len(self.widths) - 2.0)
        high = position - low
        numbers = tf.range(len(self.widths), dtype=tf.float32)
        return tf.where(numbers == low, 1.0 - high, tf.where(numbers == low + 1.0, high, 0.0))

    def quantized(self, kernel: Any, variables: Variables) -> Any:
        shares = self.shares(variables)
        steps = in_units(positive(variables["step"]), self.starts)
        made = []
        for number, width in enumerate(self.widths):
            top = 2.0 ** (width - 1) - 1.0
            gradient_scale = 1.0 / math.sqrt(math.prod(self.view) / self.start.size * top)
            made.append(shares[number] * lsq(kernel, steps[number], top, self.shared, gradient_scale))
        return tf.add_n(made)

    def _nearest(self, variables: Variables) -> int:
        return int(np.rint(float(self.position(variables))))

    def width(self, variables: Variables) -> int:
        return self.widths[self._nearest(variables)]

    def scale(self, kernel: Any, variables: Variables) -> Any:
        return in_units(positive(variables["step"]), self.starts)[self._nearest(variables)]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "start": self.starts.tolist(),
            "widths": list(self.widths),
            "pace": self.pace,
        }
