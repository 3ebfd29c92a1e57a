"""PACT (Choi et al. 2018, arXiv:1805.06085): a learned clipping level a for activations, with decay.

y = clip(x, 0, a), rounded to the grid from 0 to a. The gradient by a is 1 where x >= a and 0 below (section 3,
equation 3): what rounding does to the grid is left out, which is what LSQ adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfq_pipeline.annotate.quantizers.base import ActivationQuantizer
from tfq_pipeline.annotate.quantizers.learned import in_units, learned, positive, positive_array
from tfq_pipeline.numerics.affine import Affine


def pact(x: Any, level: Any, low_ratio: float, high_ratio: float, bits: int) -> Any:
    """Values clipped to [low_ratio * level, high_ratio * level] and rounded to the 2**bits values there.

    The paper has 0 and 1. A tensor of both signs has -1 and 1 or thereabouts; a value clipped at either end moves with
    the level by the ratio of that end.
    """

    @tf.custom_gradient
    def quantized(x: Any, level: Any) -> Any:
        low, high = low_ratio * level, high_ratio * level
        y = tf.quantization.fake_quant_with_min_max_vars(x, low, high, num_bits=bits)

        def gradient(upstream: Any) -> tuple[Any, Any]:
            by_x, below, above = tf.raw_ops.FakeQuantWithMinMaxVarsGradient(
                gradients=upstream, inputs=x, min=low, max=high, num_bits=bits
            )
            return by_x, low_ratio * below + high_ratio * above

        return y, gradient

    return quantized(x, level)


class PACTActivation(ActivationQuantizer):
    """Activations with a learned clipping level and the plan's zero point.

    Args:
        decay: of the square of the level, in the loss.
    """

    def __init__(self, bits: int, scale: float, zero_point: int, symmetric: bool, decay: float) -> None:
        super().__init__(bits, scale, zero_point, symmetric)
        self.decay = decay

    @property
    def reach(self) -> int:
        """Steps from 0 to the clipping level."""
        return max(self.highest, -self.lowest)

    def level(self, ratio: Any) -> Any:
        """The clipping level."""
        return in_units(positive(ratio), self.scale * self.reach)

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        def penalty(ratio: Any) -> Any:
            return self.decay * tf.square(self.level(ratio))

        return {"level": learned(layer, f"{name}_level", (), 1.0, penalty if self.decay else None)}

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        ratios = self.lowest / self.reach, self.highest / self.reach
        return pact(inputs, self.level(weights["level"]), *ratios, self.bits)

    def affine(self, variables: Mapping[str, np.ndarray]) -> Affine:
        return self.with_scale(positive_array(variables["level"]) * np.float32(self.scale), self.zero_point)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay": self.decay}
