"""How far a tensor's largest values stand out: what a range that holds them all costs the others.

With n bits a range of m times what most values need leaves them n - log2(m) bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A channel dominates where its largest magnitude is more than so many times the median channel's.
DOMINATES = 4.0

# Values that percentile and kurtosis are taken of, at most.
_VALUES = 1 << 18

_LISTED = 8


@dataclass(frozen=True)
class Outliers:
    """Statistics of one tensor.

    Attributes:
        peak: largest magnitude over the 99.9th percentile of the magnitudes that are not 0; 1 for a tensor of zeros.
        kurtosis: fourth standardized moment: 1.8 for uniform values, 3 for normal ones; 0 for constant ones.
        channels: channels that dominate and how many times the median channel's their largest magnitude is, the largest
            first, at most 8.
    """

    peak: float
    kurtosis: float
    channels: tuple[tuple[int, float], ...]


def outliers(x: np.ndarray) -> Outliers:
    """Statistics of a tensor [..., channels] of finite values; percentile and kurtosis of rows at even distances where
    it has many.

    Raises:
        ValueError: for an empty tensor.
    """
    if not x.size:
        raise ValueError(f"a tensor of shape {x.shape} has no statistics")
    rows = x.reshape(-1, x.shape[-1] if x.ndim else 1)
    largest = np.maximum(rows.max(axis=0), -rows.min(axis=0)).astype(np.float64)
    some = rows[:: -(-x.size // _VALUES)].astype(np.float64)
    magnitudes, top = np.abs(some[some != 0.0]), float(largest.max())
    usual = float(np.percentile(magnitudes, 99.9)) if magnitudes.size else top
    deviation = some - some.mean()
    variance = float(np.mean(deviation**2))
    return Outliers(
        top / usual if usual > 0.0 else 1.0,
        float(np.mean(deviation**4)) / variance**2 if variance > 0.0 else 0.0,
        _dominating(largest),
    )


def weight_outliers(kernel: np.ndarray, channel_axis: int) -> Outliers:
    """Statistics of weights in units of their output channel's root mean square, since each has a range of its own;
    the channels are those of the last axis, input channels but for depthwise."""
    axes = tuple(a for a in range(kernel.ndim) if a != channel_axis)
    size = np.sqrt(np.mean(kernel.astype(np.float64) ** 2, axis=axes, keepdims=True))
    return outliers(kernel / np.where(size > 0.0, size, 1.0))


def _dominating(largest: np.ndarray) -> tuple[tuple[int, float], ...]:
    middle = float(np.median(largest[largest > 0.0])) if largest.any() else 1.0
    order = np.argsort(-largest, kind="stable")[:_LISTED]
    return tuple((int(i), float(largest[i] / middle)) for i in order if largest[i] > DOMINATES * middle)
