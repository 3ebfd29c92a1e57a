"""Logarithmic weights (Miyashita 2016, arXiv:1603.01025, section 3.2): 0 and powers of two times a scale.

Exponents are rounded, so a magnitude goes to the power of two that is nearest as a ratio. The largest magnitude sets
the full scale, as in the paper; what is below the lowest power by more than half an octave is 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfq_pipeline.annotate.quantizers.base import Variables, WeightQuantizer, round_half_away


class LogarithmicWeights(WeightQuantizer):
    """Weights whose integers are 0 and the powers of two of either sign that the bits hold: of 4 bits 1, 2 and 4.
    Weights that are all 0 keep the plan's scale."""

    @property
    def highest_power(self) -> int:
        """Exponent of the highest integer."""
        return math.floor(math.log2(self.top))

    def _integers(self, kernel: Any, variables: Variables) -> Any:
        steps = tf.abs(kernel) / self.scale(kernel, variables)
        exponent = round_half_away(tf.math.log(tf.maximum(steps, 2.0**-8)) / math.log(2.0))
        power = tf.minimum(tf.pow(2.0, exponent), 2.0**self.highest_power)
        return tf.where(exponent >= 0, power * tf.sign(kernel), 0.0)

    def scale(self, kernel: Any, variables: Variables) -> Any:
        largest = tf.reduce_max(tf.abs(kernel), self.shared, keepdims=True)
        return tf.where(largest > 0, largest / 2.0**self.highest_power, self.start)

    def quantized(self, kernel: Any, variables: Variables) -> Any:
        fixed = tf.stop_gradient(kernel)
        represented = self._integers(fixed, variables) * self.scale(fixed, variables)
        return kernel + tf.stop_gradient(represented - fixed)

    def integers(self, kernel: np.ndarray, variables: Variables) -> np.ndarray | None:
        return np.asarray(self._integers(kernel, variables)).astype(np.int8)
