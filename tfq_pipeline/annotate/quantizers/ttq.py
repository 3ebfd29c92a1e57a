"""Trained ternary quantization (Zhu 2017, arXiv:1612.01064): -W_n, 0 and W_p, both levels learned.

A weight is 0 up to 0.05 times the largest magnitude (equation 9). With upstream gradient g, a level's gradient is the
sum of g over the weights that it stands for (equation 7), of -g for the negative one, and a weight's is
W_p g, g or W_n g by where it lies (equation 8). Weights are counted in the largest magnitude at the start, where the
paper divides them by it once.

Files have one scale and integers: the larger level is 7 of them and the smaller one as many as come nearest, in
training already. Rounding them counts as the identity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfq_pipeline.annotate.quantizers.base import Variables, WeightQuantizer, round_half_away, shared_axes
from tfq_pipeline.annotate.quantizers.learned import in_units, learned, positive

# Share of the largest magnitude up to which weights are 0.
_THRESHOLD = 0.05

# The file's integers of two levels that have no common step take more bits than the three values.
_STORED_BITS = 4
_TOP = 2.0 ** (_STORED_BITS - 1) - 1.0


def ttq(w: Any, high: Any, low: Any, stands: tuple[Any, Any], shared: list[int], unit: Any) -> Any:
    """Values `high` where weights are above the threshold, -`low` where they are below its negative, else 0.

    Args:
        w: float32.
        high, low: levels above 0, of the rank of `w`, 1 along the axes that share them.
        stands: what they become in the file.
        shared: these axes.
        unit: what weights are counted in.
    """

    @tf.custom_gradient
    def quantized(w: Any, high: Any, low: Any) -> Any:
        above, below = signs(w, shared)

        def gradient(upstream: Any) -> tuple[Any, Any, Any]:
            by_w = upstream * tf.where(above > 0, high / unit, tf.where(below > 0, low / unit, 1.0))
            by_high = tf.reduce_sum(upstream * above, shared, keepdims=True)
            return by_w, by_high, -tf.reduce_sum(upstream * below, shared, keepdims=True)

        return above * stands[0] - below * stands[1], gradient

    return quantized(w, high, low)


def signs(w: Any, shared: list[int]) -> tuple[Any, Any]:
    """1 where a weight is above the threshold, and 1 where it is below its negative."""
    threshold = _THRESHOLD * tf.reduce_max(tf.abs(w), shared, keepdims=True)
    return tf.cast(w > threshold, w.dtype), tf.cast(w < -threshold, w.dtype)


class TTQWeights(WeightQuantizer):
    """Weights of two learned levels and 0.

    Args:
        levels: W_p and W_n at the start, [2, ...] with the rest of the shape of `start`: the mean magnitudes of what
            they stand for.
        unit: the largest magnitudes at the start, of the shape of `start`.
    """

    def __init__(self, bits: int, view: list[int], start: Any, levels: Any, unit: Any) -> None:
        super().__init__(bits, view, start)
        self.levels, self.unit = np.asarray(levels, np.float32), np.asarray(unit, np.float32)

    @classmethod
    def starting(cls, bits: int, kernel: np.ndarray, start: np.ndarray) -> TTQWeights:
        shared = shared_axes(start)
        magnitude = np.abs(kernel)

        def mean(mask: Any) -> np.ndarray:
            count = np.asarray(mask).sum(axis=tuple(shared), keepdims=True)
            total = (magnitude * np.asarray(mask)).sum(axis=tuple(shared), keepdims=True)
            return np.where(total > 0, total / np.maximum(count, 1), start)

        largest = magnitude.max(axis=tuple(shared), keepdims=True)
        levels = np.stack([mean(mask) for mask in signs(tf.constant(kernel), shared)])
        return cls(bits, list(kernel.shape), start, levels, np.where(largest > 0, largest, start))

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {"levels": learned(layer, f"{name}_levels", self.levels.shape, 1.0)}

    def _levels(self, variables: Variables) -> Any:
        return in_units(positive(variables["levels"]), self.levels)

    def _stored(self, levels: Any) -> tuple[Any, Any]:
        """The scales, and both levels in steps of them."""
        scale = tf.reduce_max(levels, axis=0) / _TOP
        return scale, tf.maximum(round_half_away(levels / scale), 1.0)

    def scale(self, kernel: Any, variables: Variables) -> Any:
        return self._stored(self._levels(variables))[0]

    def quantized(self, kernel: Any, variables: Variables) -> Any:
        levels = self._levels(variables)
        scale, steps = self._stored(tf.stop_gradient(levels))
        stands = scale * steps
        return ttq(kernel, levels[0], levels[1], (stands[0], stands[1]), self.shared, self.unit)

    def width(self, variables: Variables) -> int:
        return _STORED_BITS

    def integers(self, kernel: np.ndarray, variables: Variables) -> np.ndarray | None:
        above, below = signs(tf.constant(kernel), self.shared)
        _, steps = self._stored(self._levels(variables))
        return np.asarray(above * steps[0] - below * steps[1]).astype(np.int8)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "levels": self.levels.tolist(), "unit": self.unit.tolist()}
