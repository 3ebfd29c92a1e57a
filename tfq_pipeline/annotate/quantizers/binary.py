"""Binary weights (Rastegari 2016, arXiv:1603.05279, section 3.1): the sign times the mean magnitude.

Files hold them as -1 and 1 in 2 bits; a weight of 0 counts as positive.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfq_pipeline.annotate.quantizers.base import Variables, WeightQuantizer


class BinaryWeights(WeightQuantizer):
    """Weights of one bit. The gradient passes where a weight is at most 1 in magnitude, as in the paper (section 3.1,
    after Courbariaux 2016), counted in the largest magnitude at the start: float weights do not grow for nothing."""

    has_zero: ClassVar[bool] = False

    def __init__(self, bits: int, view: list[int], start: Any) -> None:
        super().__init__(bits, view, start)
        self.limit = self.start * self.top

    def _signs(self, kernel: Any) -> Any:
        return tf.where(kernel >= 0, 1.0, -1.0)

    def scale(self, kernel: Any, variables: Variables) -> Any:
        mean = tf.reduce_mean(tf.abs(kernel), self.shared, keepdims=True)
        return tf.where(mean > 0, mean, self.start)

    def quantized(self, kernel: Any, variables: Variables) -> Any:
        fixed = tf.stop_gradient(kernel)
        passed = tf.where(tf.abs(fixed) <= self.limit, kernel, fixed)
        return passed + tf.stop_gradient(self._signs(fixed) * self.scale(fixed, variables) - fixed)

    def integers(self, kernel: np.ndarray, variables: Variables) -> np.ndarray | None:
        return np.asarray(self._signs(kernel)).astype(np.int8)
