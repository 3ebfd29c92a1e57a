"""Ternary weights (Li 2016, arXiv:1605.04711): -1, 0 and 1 times a scale, all from the weights at every step anew.

The threshold is 0.7 times the mean magnitude (equation 6), the scale the mean of the magnitudes above it (equation 5).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfq_pipeline.annotate.quantizers.base import Variables, WeightQuantizer


class TernaryWeights(WeightQuantizer):
    """Weights of 2 bits. Weights that are all 0 keep the plan's scale."""

    def _signs(self, kernel: Any) -> Any:
        magnitude = tf.abs(kernel)
        threshold = 0.7 * tf.reduce_mean(magnitude, self.shared, keepdims=True)
        return tf.where(magnitude > threshold, tf.sign(kernel), 0.0)

    def scale(self, kernel: Any, variables: Variables) -> Any:
        kept = tf.abs(self._signs(kernel))
        count = tf.reduce_sum(kept, self.shared, keepdims=True)
        total = tf.reduce_sum(kept * tf.abs(kernel), self.shared, keepdims=True)
        return tf.where(total > 0, total / tf.maximum(count, 1.0), self.start)

    def quantized(self, kernel: Any, variables: Variables) -> Any:
        fixed = tf.stop_gradient(kernel)
        return kernel + tf.stop_gradient(self._signs(fixed) * self.scale(fixed, variables) - fixed)

    def integers(self, kernel: np.ndarray, variables: Variables) -> np.ndarray | None:
        return np.asarray(self._signs(kernel)).astype(np.int8)
