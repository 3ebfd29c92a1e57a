"""What TFLite's operators are to quantization, as tables, after the TFLite 8-bit quantization specification.

Linear operators are described by where their weights lie; all others by what they do to the scale of an activation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True)
class LinearKind:
    """Where a linear operator keeps what.

    Attributes:
        weights, bias, input: positions among its inputs.
        channel_axis: axis of the output channels in its weights.
        options: class of its builtin options.
    """

    weights: int
    bias: int
    input: int
    channel_axis: int
    options: str


LINEAR: Mapping[str, LinearKind] = MappingProxyType(
    {
        "CONV_2D": LinearKind(1, 2, 0, 0, "Conv2DOptions"),
        "DEPTHWISE_CONV_2D": LinearKind(1, 2, 0, 3, "DepthwiseConv2DOptions"),
        "FULLY_CONNECTED": LinearKind(1, 2, 0, 0, "FullyConnectedOptions"),
        "TRANSPOSE_CONV": LinearKind(1, 3, 2, 0, "TransposeConvOptions"),
    }
)


# What a linear operator reads beside its weights: integers at calibrated ranges, floats that it quantizes when it runs
# ("dynamic range"), or floats beside decoded weights ("weight only").
Reads = Literal["int8", "int16", "dynamic", "decoded"]

# With which of them LiteRT 2.3 runs INT4 weights.
INT4_KERNELS: Mapping[str, frozenset[Reads]] = MappingProxyType(
    {
        "CONV_2D": frozenset({"int8", "dynamic", "decoded"}),
        "DEPTHWISE_CONV_2D": frozenset({"int8", "decoded"}),
        "FULLY_CONNECTED": frozenset({"int8", "int16", "dynamic", "decoded"}),
        "TRANSPOSE_CONV": frozenset({"decoded"}),
    }
)

# Those whose kernels for INT4 weights and int8 activations round twice on every processor, in every runtime: XNNPACK,
# which rounds once, leaves them alone (docs/arithmetic.md).
ROUNDED_TWICE = frozenset({"DEPTHWISE_CONV_2D"})


def stored_bits(bits: int) -> int:
    """Bits that each weight of so many takes in a file: the types that kernels read are INT4 and INT8."""
    return 4 if bits <= 4 else 8


# Operators whose INT4 weights may have one scale for each group of input channels, read as "dynamic"; the kernels take
# others and compute nonsense.
GROUPED = frozenset({"FULLY_CONNECTED"})

# Of fewer inputs in groups, 16 that is, every kernel of LiteRT 2.3 makes 0.
LEAST_GROUPED_INPUTS = 32


# Operators whose kernels take a scale for each channel from weights that they read as "dynamic", be there one or many.
SCALE_PER_CHANNEL = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})

# Operators that become exact for weights with zero points when the sums of what they read go through another one of
# their kind: no kernel reads such weights beside activations that it quantizes when it runs. The sums of a depthwise
# convolution would be the channels themselves.
SUMS_OF_GROUPS = frozenset({"CONV_2D", "FULLY_CONNECTED"})


class Scale(Enum):
    """What an operator does to the scale of its activation."""

    OWN = "own"
    PASSED_ON = "passed on"
    JOINED = "joined"
    LOGISTIC = "logistic"
    TANH = "tanh"
    LOG_SOFTMAX = "log softmax"


# Scale and zero point at 8 bits where the kernels fix them.
FIXED_SCALES: Mapping[Scale, tuple[float, int]] = MappingProxyType(
    {Scale.LOGISTIC: (1.0 / 256.0, -128), Scale.TANH: (1.0 / 128.0, 0), Scale.LOG_SOFTMAX: (16.0 / 256.0, 127)}
)

# The scale of the same operators at 16 bits; the zero point is 0.
FIXED_SCALE_16 = 1.0 / 32768.0

# Operators that the range of their output computes too, by saturation: their input may have its scale.
CLIPS = frozenset({"RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1"})

# Operators that pass a scale on and write values between those that they read.
BETWEEN = frozenset({"AVERAGE_POOL_2D", "RESIZE_BILINEAR"})

# Operators whose kernels round the zero point that they read to steps of what they write: half a step of fewer bits
# would be too much. They write 8 bits or more.
ROUNDED_ZERO_POINT = frozenset({"MEAN"})

# Operators that read a tensor of any type for its shape alone.
TYPE_BLIND = frozenset({"RANK", "SHAPE"})

# Operators without weights that have integer kernels.
SCALES: Mapping[str, Scale] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "ABS",
                "ADD",
                "BATCH_MATMUL",
                "ELU",
                "EXP",
                "GELU",
                "HARD_SWISH",
                "LEAKY_RELU",
                "LOG",
                "MEAN",
                "MUL",
                "PRELU",
                "RELU",
                "RELU6",
                "RELU_0_TO_1",
                "RELU_N1_TO_1",
                "RSQRT",
                "SQUARED_DIFFERENCE",
                "SUB",
                "SUM",
            ),
            Scale.OWN,
        ),
        **dict.fromkeys(
            (
                "AVERAGE_POOL_2D",
                "BATCH_TO_SPACE_ND",
                "BROADCAST_TO",
                "DEPTH_TO_SPACE",
                "EXPAND_DIMS",
                "GATHER",
                "MAX_POOL_2D",
                "MIRROR_PAD",
                "PAD",
                "REDUCE_MAX",
                "REDUCE_MIN",
                "RESHAPE",
                "RESIZE_BILINEAR",
                "RESIZE_NEAREST_NEIGHBOR",
                "REVERSE_V2",
                "SLICE",
                "SPACE_TO_BATCH_ND",
                "SPACE_TO_DEPTH",
                "SPLIT",
                "SPLIT_V",
                "SQUEEZE",
                "STRIDED_SLICE",
                "TILE",
                "TRANSPOSE",
                "UNPACK",
            ),
            Scale.PASSED_ON,
        ),
        **dict.fromkeys(("CONCATENATION", "MAXIMUM", "MINIMUM", "PACK"), Scale.JOINED),
        "LOGISTIC": Scale.LOGISTIC,
        "SOFTMAX": Scale.LOGISTIC,
        "L2_NORMALIZATION": Scale.TANH,
        "TANH": Scale.TANH,
        "LOG_SOFTMAX": Scale.LOG_SOFTMAX,
    }
)
