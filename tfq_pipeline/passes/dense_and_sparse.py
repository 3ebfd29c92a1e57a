"""Clipped weights with a side table: the dense-and-sparse decomposition of SqueezeLLM (Kim 2023, arXiv:2306.07629,
section 4.2).

A few weights that are far larger than the others of their output channel stretch its range. The weights are clipped to
a tighter one, and what that takes off them is kept beside. The paper stores it as a sparse matrix; integer operators
have none, so it is a layer over the input channels that hold it.
"""

from __future__ import annotations

import numpy as np

from tfq_pipeline.graph.protocol import Graph, LinearOp, SidePath
from tfq_pipeline.passes.side_paths import Split, most, split, splittable


def dense_and_sparse(graph: Graph, percentile: float = 99.0, share: float = 0.05, gain: float = 0.7) -> Split:
    """Gives every convolution and dense layer with outlying weights a side path of what clipping takes off them.

    Args:
        graph: folded.
        percentile: of the magnitudes of an output channel; weights above it are outliers.
        share: of a layer's input channels that become a side path at most, those with the most outliers first.
        gain: layers whose ranges, squared and summed, do not fall to this share of what they were stay as they are.
    """
    paths = {op.name: path for op in splittable(graph) if (path := _path(op, percentile, share, gain)) is not None}
    return split(graph, paths)


def _path(op: LinearOp, percentile: float, share: float, gain: float) -> SidePath | None:
    outputs, inputs = op.kernel.shape[0], op.kernel.shape[-1]
    magnitude = np.abs(op.kernel).reshape(outputs, -1, inputs)
    limit = np.percentile(magnitude, percentile, axis=(1, 2), keepdims=True)
    excess = (np.maximum(magnitude - limit, 0.0) ** 2).sum(axis=(0, 1))
    channels = most(excess, excess > 0.0, share)
    # Weights of channels without a side path are not clipped: nothing would make up for it.
    tight = np.delete(magnitude, channels, axis=2).max(axis=(1, 2), initial=0.0)
    before = magnitude.max(axis=(1, 2))
    if not len(channels) or np.square(tight).sum() > gain * np.square(before).sum():
        return None
    top = tight.reshape(-1, *[1] * (op.kernel.ndim - 1))
    main = np.clip(op.kernel, -top, top).astype(np.float32)
    return SidePath(channels, main, np.ascontiguousarray((op.kernel - main)[..., channels]))
