"""Where the scales of a plan lie along a Keras kernel: plans have TFLite's layouts, training has Keras's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfq_pipeline.errors import BadInput
from tfq_pipeline.plan import TensorPlan

# Axes of the output channels, from the end; the last alone where a class is not named.
_CHANNEL_AXES = {"DepthwiseConv2D": (-2, -1), "Conv2DTranspose": (-2,)}


@dataclass(frozen=True)
class Layout:
    """Scales that broadcast over a kernel.

    Attributes:
        view: the shape that the kernel is seen in, of as many entries as its own.
        scales: of the rank of `view`: 1 along the axes that share a scale.
        grouped: whether an axis of groups was split off the input channels.
    """

    view: tuple[int, ...]
    scales: tuple[int, ...]
    grouped: bool = False

    def from_plan(self, scale: np.ndarray) -> np.ndarray:
        """Scales in a plan's order, as the kernel has them."""
        if self.grouped:
            return scale.reshape(self.scales[-1], -1).T.reshape(self.scales)
        return scale.reshape(self.scales)

    def to_plan(self, scale: np.ndarray) -> np.ndarray:
        """The inverse of `from_plan`, one dimension."""
        return np.ascontiguousarray(scale.reshape(-1, self.scales[-1]).T if self.grouped else scale).reshape(-1)


def layout(layer: str, kind: str, shape: tuple[int, ...], planned: TensorPlan) -> Layout:
    """The layout of a layer's scales.

    Args:
        layer, kind: its name and class.
        shape: of its kernel, as Keras has it.
        planned: of the kernel.

    Raises:
        BadInput: for groups of a layer that has no kernel for them, or zero points.
    """
    if planned.affine is not None and not planned.affine.symmetric:
        raise BadInput(
            f"layer '{layer}' ({kind}): planned with zero points of weights, training knows symmetric weights alone; "
            "leave symmetric out"
        )
    if planned.group_size is not None:
        if kind != "Dense" or shape[0] % planned.group_size:
            raise BadInput(
                f"layer '{layer}' ({kind}): planned in groups of {planned.group_size}, training knows whole groups "
                "of dense layers alone; plan one scale a channel"
            )
        groups = shape[0] // planned.group_size
        return Layout((groups, planned.group_size, shape[1]), (groups, 1, shape[1]), True)
    kept = [len(shape) + axis for axis in _CHANNEL_AXES.get(kind, (-1,))] if planned.granularity == "channel" else []
    return Layout(shape, tuple(n if axis in kept else 1 for axis, n in enumerate(shape)))
