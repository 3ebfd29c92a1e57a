"""Min-max weights: the range is that of the values, at every step anew (Jacob et al. 2018, section 3.1).

A plan whose range is not that of the values, because it clips some of them or because a pass chose other integers,
is followed in proportion: the range stays the share of the largest magnitude that it was at the start.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfq_pipeline.annotate.quantizers.base import Variables, WeightQuantizer, round_half_away


class MinMaxWeights(WeightQuantizer):
    """See the module.

    Args:
        share: range at the start over the largest magnitude, of the shape of `start`.
    """

    def __init__(self, bits: int, view: list[int], start: Any, share: Any) -> None:
        super().__init__(bits, view, start)
        self.share = np.asarray(share, np.float32)

    @classmethod
    def starting(cls, bits: int, kernel: np.ndarray, start: np.ndarray) -> MinMaxWeights:
        made = cls(bits, list(kernel.shape), start, np.ones_like(start))
        largest = np.abs(kernel.astype(np.float64)).max(axis=tuple(made.shared), keepdims=True)
        share = np.divide(made.top * start, largest, out=np.ones(start.shape), where=largest > 0)
        return cls(bits, made.view, start, share)

    def scale(self, kernel: Any, variables: Variables) -> Any:
        largest = tf.reduce_max(tf.abs(kernel), axis=self.shared, keepdims=True)
        return tf.where(largest > 0, largest * (self.share / self.top), self.start)

    def quantized(self, kernel: Any, variables: Variables) -> Any:
        scale = tf.stop_gradient(self.scale(kernel, variables))
        rounded = round_half_away(tf.stop_gradient(kernel) / scale)
        inside = tf.abs(rounded) <= self.top
        passed = tf.where(inside, kernel, tf.stop_gradient(kernel))
        return passed + tf.stop_gradient(tf.clip_by_value(rounded, -self.top, self.top) * scale - kernel)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "share": self.share.tolist()}
