"""Reference int8 convolution, depthwise convolution and dense layer in plain numpy: an oracle, not a fast path.

Weights are int8 arrays in TFLite layout with zero point 0 (int4 weights are unpacked to int8); sums are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tfq_pipeline.numerics.fixed_point import (
    INT32_MAX,
    INT32_MIN,
    Activation,
    activation_range,
    multiply_by_quantized_multiplier,
    multiply_by_quantized_multiplier_single_rounding,
    multiply_by_quantized_multiplier_upward,
    quantize_multiplier,
)

Padding = Literal["same", "valid"]
Rounding = Literal["double", "double_upward", "single"]

_MULTIPLY: dict[Rounding, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "double": multiply_by_quantized_multiplier,
    "double_upward": multiply_by_quantized_multiplier_upward,
    "single": multiply_by_quantized_multiplier_single_rounding,
}


@dataclass(frozen=True, eq=False)
class OutputStage:
    """What follows the 32-bit sum.

    Attributes:
        multiplier, shift: int32 [1] or [output channels], see `fixed_point.quantize_multiplier`.
        zero_point: of the output.
        low, high: the output's range after the fused activation.
        rounding: which of `fixed_point`'s three multiplications; docs/arithmetic.md says which runtime path uses which.
    """

    multiplier: np.ndarray
    shift: np.ndarray
    zero_point: int
    low: int
    high: int
    rounding: Rounding = "double"

    def __call__(self, sums: np.ndarray) -> np.ndarray:
        """int8 output of int32 `sums` [..., channels]."""
        scaled = _MULTIPLY[self.rounding](sums, self.multiplier, self.shift).astype(np.int64)
        return np.clip(scaled + self.zero_point, self.low, self.high).astype(np.int8)


def output_stage(
    input_scale: float,
    weight_scale: np.ndarray,
    output_scale: float,
    output_zero_point: int,
    activation: Activation = "none",
    *,
    rounding: Rounding = "double",
    float32_product: bool = False,
) -> OutputStage:
    """The stage of an int8 op with these scales.

    Args:
        weight_scale: float32 [1] or [output channels].
        float32_product: rounds input scale times weight scale to float32 before the division, as the optimized
            FULLY_CONNECTED does for weights with one scale; every other case multiplies in double.
    """
    product = np.float64(np.float32(input_scale)) * np.asarray(weight_scale, np.float32).astype(np.float64)
    if float32_product:
        product = product.astype(np.float32).astype(np.float64)
    multiplier, shift = quantize_multiplier(product / np.float64(np.float32(output_scale)))
    low, high = activation_range(activation, output_scale, output_zero_point)
    return OutputStage(multiplier, shift, output_zero_point, low, high, rounding)


def conv2d(
    x: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray | None,
    input_zero_point: int,
    stage: OutputStage,
    *,
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    padding: Padding = "same",
) -> np.ndarray:
    """CONV_2D: int8 NHWC [b, h, w, i], weights OHWI [o, kh, kw, i], bias int32 [o] or None; gives int8 [b, oh, ow, o].

    Raises:
        ValueError: where a sum leaves 32 bits.
    """
    patches = _patches(x, input_zero_point, weights.shape[1:3], strides, dilations, padding)
    return stage(_to_int32(np.einsum("bhwyxi,oyxi->bhwo", patches, weights.astype(np.float64), optimize=True), bias))


def depthwise_conv2d(
    x: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray | None,
    input_zero_point: int,
    stage: OutputStage,
    *,
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    padding: Padding = "same",
) -> np.ndarray:
    """DEPTHWISE_CONV_2D: int8 NHWC [b, h, w, i], weights [1, kh, kw, i * m], bias int32 [i * m] or None.

    Gives int8 [b, oh, ow, i * m]. Output channel c * m + j reads input channel c; the depth multiplier m follows from
    the shapes.

    Raises:
        ValueError: where a sum leaves 32 bits.
    """
    repeated = np.repeat(x, weights.shape[3] // x.shape[3], axis=3)
    patches = _patches(repeated, input_zero_point, weights.shape[1:3], strides, dilations, padding)
    return stage(_to_int32(np.einsum("bhwyxc,yxc->bhwc", patches, weights[0].astype(np.float64)), bias))


def fully_connected(
    x: np.ndarray, weights: np.ndarray, bias: np.ndarray | None, input_zero_point: int, stage: OutputStage
) -> np.ndarray:
    """FULLY_CONNECTED: int8 [batch, i], weights [o, i], bias int32 [o] or None; gives int8 [batch, o].

    Raises:
        ValueError: where a sum leaves 32 bits.
    """
    return stage(_to_int32((x.astype(np.float64) - input_zero_point) @ weights.astype(np.float64).T, bias))


def _patches(
    x: np.ndarray,
    zero_point: int,
    kernel: tuple[int, ...],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    padding: Padding,
) -> np.ndarray:
    """float64 [b, oh, ow, kh, kw, i] of x - zero_point; what lies outside the image is 0."""
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    margins = [(0, 0)] * 4
    if padding == "same":
        for axis, (e, s) in enumerate(zip(extent, strides, strict=True), start=1):
            total = max(0, (-(-x.shape[axis] // s) - 1) * s + e - x.shape[axis])
            margins[axis] = (total // 2, total - total // 2)
    centred = np.pad(x.astype(np.float64) - zero_point, margins)
    rows = sliding_window_view(centred, extent[0], axis=1)
    windows = sliding_window_view(rows, extent[1], axis=2)
    taps = windows[:, :: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]]
    return np.moveaxis(taps, 3, 5)


def _to_int32(sums: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    # Products of 8-bit integers stay far below 2^53, so the float64 sums (which BLAS does fast) are exact.
    total = sums.astype(np.int64) + (0 if bias is None else bias)
    if total.size and (total.min() < INT32_MIN or total.max() > INT32_MAX):
        raise ValueError(f"sums from {total.min()} to {total.max()} leave 32 bits")
    return total.astype(np.int32)
