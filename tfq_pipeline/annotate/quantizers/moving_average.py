"""Activations on the grid of a range that training follows with a moving average (Jacob et al. 2018, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfq_pipeline.annotate.quantizers.base import ActivationQuantizer
from tfq_pipeline.numerics.affine import Affine, float_range, from_range


class MovingAverageActivation(ActivationQuantizer):
    """The range starts as the plan has it. Symmetric ones keep low = high * qmin / qmax while they move.

    Args:
        momentum: share of the old range that stays at each training step; 1.0 freezes it.
    """

    def __init__(self, bits: int, scale: float, zero_point: int, symmetric: bool, momentum: float) -> None:
        super().__init__(bits, scale, zero_point, symmetric)
        self.momentum = momentum

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        del tensor_shape

        def variable(suffix: str, value: float) -> Any:
            start = tf_keras.initializers.Constant(value)
            # Replicas see a part of the batch each.
            mean = tf.VariableAggregation.MEAN
            return layer.add_weight(f"{name}_{suffix}", initializer=start, trainable=False, aggregation=mean)

        low, high = float_range(self.with_scale(self.scale, self.zero_point))
        return {"min": variable("min", float(low[0])), "max": variable("max", float(high[0]))}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        low, high = weights["min"], weights["max"]
        if training and self.momentum < 1.0:
            seen_low = tf.minimum(tf.reduce_min(inputs), 0.0)
            seen_high = tf.maximum(tf.reduce_max(inputs), 0.0)
            if self.symmetric:
                seen_high = tf.maximum(seen_high, -seen_low)
                top = 2.0 ** (self.bits - 1)
                seen_low = -seen_high * top / (top - 1.0)
            low.assign(self.momentum * low + (1.0 - self.momentum) * seen_low)
            high.assign(self.momentum * high + (1.0 - self.momentum) * seen_high)
        return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high, num_bits=self.bits)

    def affine(self, variables: Mapping[str, np.ndarray]) -> Affine:
        if self.momentum == 1.0:
            return self.with_scale(self.scale, self.zero_point)
        return from_range(float(variables["min"]), float(variables["max"]), self.bits, symmetric=self.symmetric)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum}
