"""Outlier channels on a path of more bits: the mixed-precision decomposition of LLM.int8() (Dettmers 2022,
arXiv:2208.07339, section 3.2).

Channels of a layer's input that are far larger than the others multiply the rounding errors of the weights that read
them. Those weights leave the layer for one of their own.
"""

from __future__ import annotations

import numpy as np

from tfq_pipeline.data import Data
from tfq_pipeline.graph.protocol import Graph, SidePath
from tfq_pipeline.passes.side_paths import Split, most, split, splittable


def outlier_channels(graph: Graph, data: Data, ratio: float = 6.0, share: float = 0.05) -> Split:
    """Gives the outlier channels of every convolution and dense layer a side path.

    Args:
        graph: folded.
        data: samples.
        ratio: a channel is an outlier where its largest magnitude is more than so many times the median channel's.
        share: of a layer's input channels that become a side path at most, the largest first.
    """
    ops = splittable(graph)
    largest: dict[str, np.ndarray] = {}
    for values in graph.capture(tuple({op.input for op in ops}), data) if ops else ():
        for name, x in values.items():
            found = np.abs(x).reshape(-1, x.shape[-1]).max(axis=0)
            largest[name] = np.maximum(largest.get(name, 0.0), found)
    paths = {}
    for op in ops:
        magnitude = largest[op.input]
        channels = most(magnitude, magnitude > ratio * max(float(np.median(magnitude)), 1e-30), share)
        if len(channels):
            main = op.kernel.copy()
            main[..., channels] = 0.0
            paths[op.name] = SidePath(channels, main, np.ascontiguousarray(op.kernel[..., channels]))
    return split(graph, paths)
