"""Uniform affine quantization, real = scale * (q - zero_point), after the TFLite 8-bit quantization specification.

Ranges become parameters as the TFLite converter makes them of a FakeQuant range: in double precision, the zero
point nudged to an integer, the scale stored as float32 (Jacob et al. 2018, arXiv:1712.05877, section 3). Values become
integers as in the reference QUANTIZE kernel: float32 division, then rounding half away from zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

MIN_BITS, MAX_BITS = 2, 16

# The converter takes a narrower range for empty and gives it a scale of its own.
EMPTY_RANGE = float(np.finfo(np.float64).eps)
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Affine:
    """Parameters of real = scale * (q - zero_point) with signed integers q.

    Attributes:
        bits: width of q, 2 to 16.
        scale: float32, [1] for one scale per tensor, [channels] for one per channel; finite and positive.
        zero_point: int32, the shape of `scale`, inside [qmin, qmax].
        axis: the channel axis, None per tensor.
        symmetric: whether every zero point is 0.
        narrow: leaves out the lowest integer, so that qmin = -qmax, as TFLite asks of weights.

    Raises:
        ValueError: for parameters that break one of the rules above.
    """

    bits: int
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int | None
    symmetric: bool
    narrow: bool

    def __post_init__(self) -> None:
        _check_bits(self.bits)
        if self.scale.dtype != np.float32 or self.zero_point.dtype != np.int32:
            raise ValueError(
                f"scale must be float32 and zero point int32, found {self.scale.dtype} and {self.zero_point.dtype}"
            )
        if self.scale.ndim != 1 or self.scale.size == 0 or self.scale.shape != self.zero_point.shape:
            found = f"{self.scale.shape} and {self.zero_point.shape}"
            raise ValueError(f"scale and zero point must be vectors of one length, found {found}")
        if self.axis is None and self.scale.size != 1:
            raise ValueError(f"{self.scale.size} scales need a channel axis")
        if not (np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise ValueError(f"scale must be finite and positive, found {self.scale.min()} to {self.scale.max()}")
        if ((self.zero_point < self.qmin) | (self.zero_point > self.qmax)).any():
            raise ValueError(f"zero point outside [{self.qmin}, {self.qmax}]")
        if self.symmetric and self.zero_point.any():
            raise ValueError("symmetric parameters with a zero point other than 0")

    @property
    def qmin(self) -> int:
        """The lowest integer in use."""
        return -(1 << (self.bits - 1)) + int(self.narrow)

    @property
    def qmax(self) -> int:
        """The highest integer in use."""
        return (1 << (self.bits - 1)) - 1


def from_range(
    low: np.ndarray | float,
    high: np.ndarray | float,
    bits: int,
    *,
    symmetric: bool,
    narrow: bool = False,
    axis: int | None = None,
) -> Affine:
    """Parameters for the real range [low, high], widened to hold 0.

    A symmetric scale is max(|low|, |high|) / qmax. An empty range (narrower than 2.2e-16, as of a dead channel) takes
    the largest scale of the other channels, or 1 if there is none, and zero point 0: its values are 0 at any scale, and
    a scale like its neighbours' keeps the bias, whose scale is a multiple of it, accurate.

    Args:
        low, high: scalar or [channels]; float32 precision is kept, low <= high.
        bits: 2 to 16.
        symmetric: zero point 0.
        narrow: leaves out the lowest integer.
        axis: the channel axis where low and high are per channel.

    Raises:
        ValueError: for NaN or infinity, low above high, or bits out of range.
    """
    _check_bits(bits)
    low64, high64 = (np.atleast_1d(np.asarray(v, np.float32)).astype(np.float64) for v in (low, high))
    for name, bound in (("low", low64), ("high", high64)):
        if not np.isfinite(bound).all():
            raise ValueError(f"the {name} end of the range has {_count_not_finite(bound)} of {bound.size} values")
    if low64.shape != high64.shape or low64.ndim != 1:
        raise ValueError(f"low and high must have one shape, found {low64.shape} and {high64.shape}")
    if (low64 > high64).any():
        at = int(np.argmax(low64 > high64))
        raise ValueError(f"the range is upside down: low {low64[at]} is above high {high64[at]}")

    low64, high64 = np.minimum(low64, 0.0), np.maximum(high64, 0.0)
    qmax = (1 << (bits - 1)) - 1
    qmin = -(1 << (bits - 1)) + int(narrow)
    span = np.maximum(-low64, high64) if symmetric else high64 - low64
    steps = qmax if symmetric else qmax - qmin
    empty = span < EMPTY_RANGE
    exact = np.where(empty, 1.0, span / steps)
    if empty.any() and not empty.all():
        exact[empty] = exact[~empty].max()

    if symmetric:
        zero_point = np.zeros(exact.shape, np.int32)
    else:
        # The converter nudges in the unsigned domain, where rounding half away from zero is rounding half up.
        nudged = np.floor(np.clip(-low64 / exact, 0.0, steps) + 0.5)
        zero_point = np.where(empty, 0, nudged + qmin).astype(np.int32)
    return Affine(bits, exact.astype(np.float32), zero_point, axis, symmetric, narrow)


def weight_range(w: np.ndarray, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of `w`, float32, per channel of `axis` ([channels]) or of the whole tensor ([1]).

    Raises:
        ValueError: as `channel_rows`.
    """
    rows = channel_rows(w, axis)
    return rows.min(axis=1), rows.max(axis=1)


def channel_rows(w: np.ndarray, axis: int | None) -> np.ndarray:
    """Weights as rows that have a scale each: float32 [channels, values], or [1, values] without an axis.

    Raises:
        ValueError: for an empty tensor, or NaN or infinity in it.
    """
    w = np.asarray(w, np.float32)
    if w.size == 0:
        raise ValueError(f"an empty tensor of shape {w.shape} has no range")
    if not np.isfinite(w).all():
        raise ValueError(f"the tensor has {_count_not_finite(w)} of {w.size} values")
    return w.reshape(1, -1) if axis is None else np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1)


def quantize(x: np.ndarray, affine: Affine) -> np.ndarray:
    """The integers of `x`: int8 up to 8 bits, else int16; saturates, infinities too.

    Raises:
        ValueError: for NaN, or a channel axis that does not fit `x`.
    """
    x = np.asarray(x, np.float32)
    if np.isnan(x).any():
        raise ValueError(f"cannot quantize {int(np.isnan(x).sum())} NaN of {x.size} values")
    scale, zero_point = _along(affine.scale, affine, x), _along(affine.zero_point, affine, x)
    with np.errstate(over="ignore"):
        steps = (x / scale).astype(np.float64)
    # In double the sum with one half is exact for every float32 that is not saturated anyway; in float32 it is not.
    rounded = np.trunc(steps + np.copysign(0.5, steps))
    integers = np.clip(rounded + zero_point, affine.qmin, affine.qmax)
    return np.asarray(integers, np.int8 if affine.bits <= 8 else np.int16)


def dequantize(q: np.ndarray, affine: Affine) -> np.ndarray:
    """float32 scale * (q - zero_point)."""
    q = np.asarray(q)
    steps = q.astype(np.int32) - _along(affine.zero_point, affine, q)
    # float32 holds the difference (17 bits at most), so the product is rounded once, as in the DEQUANTIZE kernel.
    return np.asarray(steps.astype(np.float32) * _along(affine.scale, affine, q))


def fake_quantize(x: np.ndarray, affine: Affine) -> np.ndarray:
    """`x` moved to the nearest representable values, float32."""
    return dequantize(quantize(x, affine), affine)


def float_range(affine: Affine) -> tuple[np.ndarray, np.ndarray]:
    """The real values of qmin and qmax, float32, the shape of `scale`: what FakeQuantWithMinMaxVars takes.

    The zero point comes back exactly from this range, the scale within one unit in the last place of float32.
    """
    scale = affine.scale.astype(np.float64)
    low = (affine.qmin - affine.zero_point) * scale
    high = (affine.qmax - affine.zero_point) * scale
    low, high = (np.clip(v, -_FLOAT32_MAX, _FLOAT32_MAX).astype(np.float32) for v in (low, high))
    return low, high


def stored(affine: Affine) -> Affine:
    """The grid of an activation in integers that files have: of 16 bits above 8, else of 8.

    Fewer than 8 bits lie at the upper end, so that kernels that saturate clip what is above them: 4 bits are 112 to
    127. Below them nothing clips but an activation that starts at 0.
    """
    bits = 8 if affine.bits <= 8 else 16
    shift = (1 << (bits - 1)) - 1 - affine.qmax
    if not shift:
        return affine
    return replace(affine, bits=bits, zero_point=affine.zero_point + np.int32(shift), symmetric=False, narrow=False)


def spread(affine: Affine) -> Affine:
    """The values of an activation of fewer than 8 bits in integers as far apart as int8 allows: of 4 bits -128, -112 to
    112. All others as they are, and those whose scale float32 cannot divide.

    Kernels that round a sum twice leave more bits to the first rounding where the sum counts such integers, so that
    they come closer to one rounding.
    """
    shift = max(8 - affine.bits, 0)
    scale = np.ldexp(affine.scale, -shift)
    if not shift or (scale < np.finfo(np.float32).tiny).any():
        return affine
    return replace(affine, bits=8, scale=scale, zero_point=affine.zero_point << shift)


def lowest_stored(affine: Affine) -> int:
    """The lowest integer of an activation as files have it."""
    return affine.qmin + int(stored(affine).zero_point[0] - affine.zero_point[0])


def _along(parameter: np.ndarray, affine: Affine, x: np.ndarray) -> np.ndarray:
    if affine.axis is None:
        return parameter
    if not -x.ndim <= affine.axis < x.ndim or x.shape[affine.axis] != parameter.size:
        raise ValueError(f"{parameter.size} channels on axis {affine.axis} do not fit a tensor of shape {x.shape}")
    shape = [1] * x.ndim
    shape[affine.axis] = parameter.size
    return parameter.reshape(shape)


def _check_bits(bits: int) -> None:
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ValueError(f"bits must be {MIN_BITS} to {MAX_BITS}, found {bits}")


def _count_not_finite(x: np.ndarray) -> str:
    return f"{int(np.isnan(x).sum())} NaN and {int(np.isinf(x).sum())} infinite"
