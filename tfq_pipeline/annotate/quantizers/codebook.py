"""A learned codebook (Han 2016, Deep Compression, arXiv:1510.00149): a layer's weights share 2**bits values.

Values start as k-means has them (section 3.1), of weights divided by the largest magnitude of their channel; the
gradient of a value is the sum of those of the weights that it stands for (section 3.3). The paper then keeps which
weight has which value; here weights move too, straight-through, and take the value that is nearest.

Files have one scale and integers of 8 bits: a value is a multiple of 1/127 of the largest magnitude, in training
already. Rounding it counts as the identity.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfq_pipeline.annotate.quantizers.base import Variables, WeightQuantizer, round_half_away, shared_axes
from tfq_pipeline.annotate.quantizers.learned import in_units, learned
from tfq_pipeline.numerics.codebook import kmeans

# The file's integers are of more bits than the numbers of the values.
_STORED_BITS = 8
_TOP = 2.0 ** (_STORED_BITS - 1) - 1.0


class CodebookWeights(WeightQuantizer):
    """Weights of a learned table.

    Args:
        values: at the start, [2**bits], in units of the largest magnitudes.
        unit: the largest magnitudes at the start, of the shape of `start`.
    """

    has_zero: ClassVar[bool] = False

    def __init__(self, bits: int, view: list[int], start: Any, values: Any, unit: Any) -> None:
        super().__init__(bits, view, start)
        self.values, self.unit = np.asarray(values, np.float32), np.asarray(unit, np.float32)

    @classmethod
    def starting(cls, bits: int, kernel: np.ndarray, start: np.ndarray) -> CodebookWeights:
        largest = np.abs(kernel).max(axis=tuple(shared_axes(start)), keepdims=True)
        unit = np.where(largest > 0, largest, start)
        return cls(bits, list(kernel.shape), start, kmeans(kernel / unit, 2**bits), unit)

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {"moved": learned(layer, f"{name}_moved", self.values.shape, 0.0)}

    def table(self, variables: Variables) -> Any:
        """The values in steps of the file, ascending, [2**bits]."""
        pace = float(np.abs(self.values).mean()) or 1.0
        steps = _TOP * (self.values + in_units(variables["moved"], pace))
        rounded = tf.clip_by_value(round_half_away(steps), -_TOP, _TOP)
        return tf.sort(steps + tf.stop_gradient(rounded - steps))

    def numbers(self, kernel: Any, table: Any) -> Any:
        """Which value is nearest, of the shape of `kernel`."""
        limits = (table[1:] + table[:-1]) / 2.0
        steps = tf.reshape(kernel / (self.unit / _TOP), [-1])
        return tf.reshape(tf.searchsorted(limits, steps), tf.shape(kernel))

    def scale(self, kernel: Any, variables: Variables) -> Any:
        return tf.constant(self.unit / np.float32(_TOP))

    def quantized(self, kernel: Any, variables: Variables) -> Any:
        table = self.table(variables)
        chosen = tf.gather(table, self.numbers(tf.stop_gradient(kernel), tf.stop_gradient(table)))
        return chosen * self.scale(kernel, variables) + (kernel - tf.stop_gradient(kernel))

    def width(self, variables: Variables) -> int:
        return _STORED_BITS

    def integers(self, kernel: np.ndarray, variables: Variables) -> np.ndarray | None:
        table = self.table(variables)
        return np.asarray(tf.gather(table, self.numbers(tf.constant(kernel), table))).astype(np.int8)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "values": self.values.tolist(), "unit": self.unit.tolist()}
