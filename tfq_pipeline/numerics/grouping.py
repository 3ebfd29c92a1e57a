"""Group-wise granularity: runs of 16 to 256 input channels with parameters of their own.

A grouped tensor is an ordinary tensor whose channels are (channel, group) pairs: `affine` with axis 0 serves it.
"""

from __future__ import annotations

import numpy as np

from tfq_pipeline.numerics.affine import Affine

MIN_GROUP, MAX_GROUP = 16, 256


def group_count(inputs: int, size: int) -> int:
    """Groups that `inputs` input channels make; the last may be ragged."""
    _check_size(size)
    return -(-inputs // size)


def to_groups(w: np.ndarray, size: int) -> np.ndarray:
    """[channels, ..., inputs] to [channels * groups, ..., size].

    Groups of one channel are adjacent. A ragged last group is filled with zeros, which every range holds exactly, so
    the filling changes neither parameters nor errors.

    Raises:
        ValueError: for a size outside 16 to 256 or fewer than two dimensions.
    """
    groups = group_count(_dims(w.shape)[-1], size)
    channels, *taps, inputs = w.shape
    filled = np.zeros((*w.shape[:-1], groups * size), w.dtype)
    filled[..., :inputs] = w
    return np.moveaxis(filled.reshape(channels, *taps, groups, size), -2, 1).reshape(channels * groups, *taps, size)


def from_groups(grouped: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `to_groups` for a tensor of `shape` [channels, ..., inputs]; the filling is cut off.

    Raises:
        ValueError: where the two shapes do not belong together.
    """
    channels, *taps, inputs = _dims(shape)
    size = grouped.shape[-1]
    groups = group_count(inputs, size)
    if grouped.shape != (channels * groups, *taps, size):
        raise ValueError(f"groups of shape {grouped.shape} do not make a tensor of shape {shape}")
    split = np.moveaxis(grouped.reshape(channels, groups, *taps, size), 1, -2)
    return split.reshape(*shape[:-1], groups * size)[..., :inputs]


def group_parameters(affine: Affine, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point of grouped parameters as [channels, groups].

    Raises:
        ValueError: where the parameters are not those of a grouped tensor with that many channels.
    """
    if affine.axis != 0 or affine.scale.size % channels:
        raise ValueError(f"{affine.scale.size} scales on axis {affine.axis} are not groups of {channels} channels")
    return affine.scale.reshape(channels, -1), affine.zero_point.reshape(channels, -1)


def _dims(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) < 2:
        raise ValueError(f"a tensor of shape {shape} has no input channels to group")
    return shape


def _check_size(size: int) -> None:
    if not MIN_GROUP <= size <= MAX_GROUP:
        raise ValueError(f"a group must have {MIN_GROUP} to {MAX_GROUP} input channels, found {size}")
