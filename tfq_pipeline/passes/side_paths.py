"""Layers as sums: most weights at few bits, and beside them a layer with more bits that reads some input channels.

The channels are gathered, the results added, so the file holds stock integer operators alone. Techniques differ in
which channels the second layer reads and in what of their weights it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tfq_pipeline.graph.protocol import CHANNELS, MAIN, SIDE, SUM, Graph, LinearOp, SidePath


@dataclass(frozen=True, eq=False)
class Split:
    """What came of it.

    Attributes:
        graph: computes what it did before.
        channels: by layer that was taken apart, the input channels of its side path, int32 [k].
        parts: by name that is new in the graph, the layer that it is a part of.
        sides: names of the side paths.
    """

    graph: Graph
    channels: Mapping[str, np.ndarray]
    parts: Mapping[str, str]
    sides: tuple[str, ...]


def splittable(graph: Graph) -> tuple[LinearOp, ...]:
    """Linear operators that side paths are made for: each output sums over all channels of the input."""
    channels = {t.name: t.shape[-1] if t.shape else None for t in graph.tensors()}
    return tuple(
        op
        for op in graph.linear_ops()
        if op.op in ("CONV_2D", "FULLY_CONNECTED")
        and op.calls == 1
        and channels[op.input] == op.kernel.shape[-1]
        and np.isfinite(op.kernel).all()
    )


def split(graph: Graph, paths: Mapping[str, SidePath]) -> Split:
    """The graph with these side paths, by layer."""
    parts = {f"{name}{end}": name for name in paths for end in (MAIN, CHANNELS, SIDE, SUM)}
    channels = {name: path.channels for name, path in paths.items()}
    return Split(graph.with_side_paths(paths), channels, parts, tuple(f"{name}{SIDE}" for name in paths))


def most(score: np.ndarray, chosen: np.ndarray, share: float) -> np.ndarray:
    """The channels with the largest score among those chosen, at most this share of all, int32 in order."""
    best = np.argsort(-np.where(chosen, score, -np.inf), kind="stable")[: int(np.ceil(share * len(score)))]
    return np.sort(best[chosen[best]]).astype(np.int32)
