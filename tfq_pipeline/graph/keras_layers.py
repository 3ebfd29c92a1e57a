"""What the Keras backend knows of each layer class, as tables.

Linear layers are described by where their kernel lies and how it reads in TFLite's layout. All other layers by what
they do to an activation's scale: write their own, pass the input's on, or have it fixed by TFLite's int8 specification.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tfq_pipeline.importers.decompose import MOST_STEPS
from tfq_pipeline.tflite.operators import Scale


@dataclass(frozen=True)
class LinearKind:
    """A layer class with a weight matrix.

    Attributes:
        op: TFLite builtin that the converter makes of it.
        kernel: attribute that holds the kernel variable.
        channel_axis: axis of the output channels in TFLite's layout.
        to_tflite, from_tflite: kernel layout, Keras to TFLite and back (the second takes the Keras shape).
        scale_outputs: Keras kernel times a factor per output channel.
        scale_inputs: Keras kernel times a factor per input channel.
        input_sum: what a constant added per input channel adds to each output, for a kernel without padding.
    """

    op: str
    kernel: str
    channel_axis: int
    to_tflite: Callable[[np.ndarray], np.ndarray]
    from_tflite: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
    scale_outputs: Callable[[np.ndarray, np.ndarray], np.ndarray]
    scale_inputs: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
    input_sum: Callable[[np.ndarray, np.ndarray], np.ndarray] | None


def _depthwise_factor(kernel: np.ndarray, factor: np.ndarray) -> np.ndarray:
    return factor.reshape(kernel.shape[-2:])


LINEAR: dict[str, LinearKind] = {
    "Conv2D": LinearKind(
        op="CONV_2D",
        kernel="kernel",
        channel_axis=0,
        to_tflite=lambda k: k.transpose(3, 0, 1, 2),
        from_tflite=lambda k, shape: k.transpose(1, 2, 3, 0),
        scale_outputs=lambda k, f: k * f,
        scale_inputs=lambda k, f: k * f[:, None],
        input_sum=lambda k, f: np.einsum("hwio,i->o", k, f),
    ),
    "Conv1D": LinearKind(
        op="CONV_2D",
        kernel="kernel",
        channel_axis=0,
        to_tflite=lambda k: k.transpose(2, 0, 1)[:, None],
        from_tflite=lambda k, shape: k[:, 0].transpose(1, 2, 0),
        scale_outputs=lambda k, f: k * f,
        scale_inputs=lambda k, f: k * f[:, None],
        input_sum=lambda k, f: np.einsum("wio,i->o", k, f),
    ),
    "DepthwiseConv2D": LinearKind(
        op="DEPTHWISE_CONV_2D",
        kernel="depthwise_kernel",
        channel_axis=3,
        to_tflite=lambda k: k.reshape(1, k.shape[0], k.shape[1], -1),
        from_tflite=lambda k, shape: k.reshape(shape),
        scale_outputs=lambda k, f: k * _depthwise_factor(k, f),
        scale_inputs=lambda k, f: k * f[:, None],
        input_sum=lambda k, f: (k.sum(axis=(0, 1)) * f[:, None]).reshape(-1),
    ),
    "Dense": LinearKind(
        op="FULLY_CONNECTED",
        kernel="kernel",
        channel_axis=0,
        to_tflite=lambda k: k.T,
        from_tflite=lambda k, shape: k.T,
        scale_outputs=lambda k, f: k * f,
        scale_inputs=lambda k, f: k * f[:, None],
        input_sum=lambda k, f: f @ k,
    ),
    "Conv2DTranspose": LinearKind(
        op="TRANSPOSE_CONV",
        kernel="kernel",
        channel_axis=0,
        to_tflite=lambda k: k.transpose(2, 0, 1, 3),
        from_tflite=lambda k, shape: k.transpose(1, 2, 0, 3),
        scale_outputs=lambda k, f: k * f[:, None],
        scale_inputs=None,
        input_sum=None,
    ),
}


# By layer class, or by operation for an OpLayer: every one here was seen to convert to int8 operators alone.
SCALES: dict[str, Scale] = {
    **dict.fromkeys(
        (
            "Add",
            "ELU",
            "Embedding",
            "GlobalAveragePooling1D",
            "GlobalAveragePooling2D",
            "HardSwish",
            "LeakyReLU",
            "Multiply",
            "PReLU",
            "ReLU",
            "Subtract",
        ),
        Scale.OWN,
    ),
    **dict.fromkeys(
        (
            "AveragePooling1D",
            "AveragePooling2D",
            "Cropping1D",
            "Cropping2D",
            "Flatten",
            "GlobalMaxPooling1D",
            "GlobalMaxPooling2D",
            "MaxPooling1D",
            "MaxPooling2D",
            "Permute",
            "RepeatVector",
            "Reshape",
            "TakeChannels",
            "UpSampling1D",
            "UpSampling2D",
            "ZeroPadding1D",
            "ZeroPadding2D",
        ),
        Scale.PASSED_ON,
    ),
    **dict.fromkeys(("Concatenate", "Maximum", "Minimum"), Scale.JOINED),
    "Softmax": Scale.LOGISTIC,
    **dict.fromkeys(("relu", "relu6", "swish", "gelu", "hard_silu", "silu", "leaky_relu", "linear", "elu"), Scale.OWN),
    "sigmoid": Scale.LOGISTIC,
    "softmax": Scale.LOGISTIC,
    "tanh": Scale.TANH,
    **dict.fromkeys(
        (
            "abs",
            "absolute",
            "add",
            "clip",
            "divide",
            "exp",
            "matmul",
            "mean",
            "multiply",
            "rsqrt",
            "subtract",
            "sum",
            "true_divide",
        ),
        Scale.OWN,
    ),
    **dict.fromkeys(("concatenate", "maximum", "minimum", "stack"), Scale.JOINED),
    **dict.fromkeys(
        (
            "average_pool",
            "depth_to_space",
            "expand_dims",
            "flip",
            "get_item",
            "max",
            "max_pool",
            "min",
            "moveaxis",
            "pad",
            "repeat",
            "reshape",
            "resize",
            "space_to_depth",
            "squeeze",
            "swapaxes",
            "tile",
            "transpose",
        ),
        Scale.PASSED_ON,
    ),
}

# Why a layer that could be taken apart into integer operators was left whole; for all others there are none.
LEFT_WHOLE: dict[str, str] = {
    **dict.fromkeys(
        ("GRU", "LSTM", "SimpleRNN"),
        f"is unrolled without masks, without states in or out, and over sequences of a known length up to {MOST_STEPS} "
        "alone: give the input a fixed shorter length",
    ),
    "Bidirectional": "is taken apart around LSTM, GRU and SimpleRNN that give one tensor alone",
    "EinsumDense": "is taken apart where its equation sums over the last axes alone",
    "LayerNormalization": "is taken apart over the last axis alone",
    "MultiHeadAttention": "is taken apart without masks and over sequences of a known length alone",
}

# Operations that convert to int8 with a constant as their second operand alone.
CONSTANT_DIVISOR = frozenset({"divide", "true_divide"})

# Operators without weights that TFLite computes together with a ReLU behind them.
FUSES_RELU = frozenset({"Add", "Subtract", "Multiply", "add", "subtract", "multiply"})

# TFLite operators without weights that passes look for, by layer class or operation.
OPERATORS: dict[str, str] = {
    **dict.fromkeys(("Add", "add"), "ADD"),
    **dict.fromkeys(("GlobalAveragePooling1D", "GlobalAveragePooling2D", "mean"), "MEAN"),
}

RELU_LIMITS: dict[str, float | None] = {"relu": None, "relu6": 6.0}

BATCH_NORM = "BatchNormalization"
CHANNEL_AFFINE = frozenset({BATCH_NORM, "Rescaling", "Normalization"})


def channel_affine(
    kind: str, config: dict[str, object], weights: tuple[np.ndarray, ...], channels: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """y = scale * x + shift per channel for layers that are nothing else, or None where the layer is not of that form.

    Args:
        kind: class name of the layer, one of `CHANNEL_AFFINE`.
        config: its Keras config.
        weights: its weights in Keras order.
        channels: size of the last axis.

    Returns:
        float64 scale and shift, each [channels]; not finite where the statistics are not those of data.
    """
    ones = np.ones(channels)
    if kind == "Rescaling":
        return ones * np.asarray(config["scale"], np.float64), ones * np.asarray(config["offset"], np.float64)
    if kind == "Normalization":
        mean, variance = _normalization_statistics(config, weights)
        if mean.size not in (1, channels):
            return None
        deviation = np.maximum(np.sqrt(variance), 1e-7)
        scale, shift = 1.0 / deviation, -mean / deviation
        if config.get("invert"):
            scale, shift = deviation, mean
        return ones * scale.reshape(-1), ones * shift.reshape(-1)
    left = [np.asarray(w, np.float64) for w in weights]
    gamma = left.pop(0) if config.get("scale", True) else ones
    beta = left.pop(0) if config.get("center", True) else 0.0 * ones
    mean, variance = left
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = gamma / np.sqrt(variance + float(config["epsilon"]))  # type: ignore[arg-type]
        return scale, beta - mean * scale


def _normalization_statistics(
    config: dict[str, object], weights: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, np.ndarray]:
    if len(weights) >= 2:
        return np.asarray(weights[0], np.float64), np.asarray(weights[1], np.float64)
    return np.asarray(config["mean"], np.float64), np.asarray(config["variance"], np.float64)
