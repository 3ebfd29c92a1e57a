"""What each output value of a linear operator is a sum over: patches of its input, as the rows of a matrix.

With patches a convolution is a matrix product, and one formula serves every linear operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tfq_pipeline.graph.protocol import LinearOp

# Operators that patches are made for; TRANSPOSE_CONV scatters its input and has none.
WITH_PATCHES = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def groups(op: LinearOp, channels: int) -> int:
    """Groups of input channels that see different weights.

    Args:
        op: the operator.
        channels: of its input.
    """
    if op.op == "DEPTHWISE_CONV_2D":
        return channels
    return channels // int(op.kernel.shape[-1])


def weight_rows(op: LinearOp, kernel: np.ndarray, channels: int) -> np.ndarray:
    """Weights as [groups, outputs of a group, values of a patch], in the order of `patches`."""
    if op.op == "DEPTHWISE_CONV_2D":
        taps = kernel.shape[1] * kernel.shape[2]
        return np.ascontiguousarray(kernel.reshape(taps, channels, -1).transpose(1, 2, 0))
    count = groups(op, channels)
    return kernel.reshape(count, kernel.shape[0] // count, -1)


def kernel_of(op: LinearOp, rows: np.ndarray) -> np.ndarray:
    """The inverse of `weight_rows`: weights in TFLite layout."""
    if op.op == "DEPTHWISE_CONV_2D":
        return np.ascontiguousarray(rows.transpose(2, 0, 1)).reshape(op.kernel.shape)
    return rows.reshape(op.kernel.shape)


def count_patches(op: LinearOp, x: np.ndarray) -> int:
    """Patches of an input, as `patches` takes it."""
    if op.op == "FULLY_CONNECTED":
        return x.size // int(op.kernel.shape[1])
    return int(np.prod(_windows(op, x).shape[:3]))


def patches(op: LinearOp, x: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
    """Patches of an input, float32 [groups, patches, values of a patch]; padding is 0.

    Args:
        op: one of WITH_PATCHES.
        x: its input, [batch, height, width, channels], [batch, steps, channels] of a sequence, or [..., channels] of a
            dense layer.
        chosen: numbers of the patches that are wanted; all where it is not given.
    """
    if op.op == "FULLY_CONNECTED":
        rows = x.reshape(-1, op.kernel.shape[1])
        return (rows if chosen is None else rows[chosen])[None]
    window = _windows(op, x)
    numbers = np.arange(np.prod(window.shape[:3])) if chosen is None else chosen
    picked = window[np.unravel_index(numbers, window.shape[:3])]
    channels, height, width = picked.shape[1:]
    count = groups(op, channels)
    split = picked.reshape(len(numbers), count, channels // count, height, width)
    return np.ascontiguousarray(split.transpose(1, 0, 3, 4, 2)).reshape(count, len(numbers), -1)


def _windows(op: LinearOp, x: np.ndarray) -> np.ndarray:
    """[batch, rows, columns, channels, kernel height, kernel width], a view of the padded input."""
    if x.ndim == 3:
        # A sequence is an image of one row.
        x = x[:, None]
    pads = [(0, 0)]
    reach = []
    for axis in (0, 1):
        size, kernel = x.shape[1 + axis], op.kernel.shape[1 + axis]
        stride, dilation = op.strides[axis], op.dilations[axis]
        span = (kernel - 1) * dilation + 1
        reach.append(span)
        pads.append(_PADDING[op.padding](size, span, stride))
    padded = np.pad(x, [*pads, (0, 0)])
    view = np.lib.stride_tricks.sliding_window_view(padded, tuple(reach), axis=(1, 2))  # type: ignore[call-overload]
    strided: np.ndarray = view[:, :: op.strides[0], :: op.strides[1], :, :: op.dilations[0], :: op.dilations[1]]
    return strided


def _same(size: int, span: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


# Zeros before and after an axis, given its size, the span of the kernel and the stride.
_PADDING: Mapping[str, Callable[[int, int, int], tuple[int, int]]] = {
    "SAME": _same,
    "VALID": lambda size, span, stride: (0, 0),
    "CAUSAL": lambda size, span, stride: (span - 1, 0),
}
