"""High-bias absorption (Nagel 2019, arXiv:1906.04721, section 4.1.3): moves what a layer's ReLU never clips from its
bias into the bias of the next layer, so that the activation between them has a smaller range.

ReLU(z - c) = ReLU(z) - c wherever z >= c, so c may leave the first layer's bias if W c enters the second's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tfq_pipeline.data import Data
from tfq_pipeline.graph.protocol import Graph, LinearOp, Weights
from tfq_pipeline.passes.channel_scaling import Pair, pairs_of
from tfq_pipeline.passes.expectation import CLIPPED, per_patch
from tfq_pipeline.passes.patches import weight_rows

# The paper's 3: a normal variable lies below mean - 3 deviations once in 740 times.
_DEVIATIONS = 3.0


@dataclass(frozen=True, eq=False)
class Absorbed:
    """What came of it.

    Attributes:
        graph: computes what it did before, but for the tail that is clipped anew.
        amounts: by names of the two layers, what was taken from each channel, float64 [channels].
    """

    graph: Graph
    amounts: Mapping[tuple[str, str], np.ndarray]


def high_bias_absorption(graph: Graph, data: Data | None = None) -> Absorbed:
    """Absorbs the bias of every layer with batch norm, or with samples to measure on, whose ReLU or ReLU6 one other
    layer alone reads.

    Layers that pad what they read with zeros are left alone: at their borders there would be too much.

    Args:
        graph: folded.
        data: samples, to find what layers without batch norm never fall below.
    """
    pairs = [pair for pair in pairs_of(graph, data) if pair.first.activation in ("RELU", "RELU6")]
    pairs = [pair for pair in pairs if _unpadded(pair.second)]
    lowest, highest = ({}, {}) if data is None else _ends(graph, pairs, data)
    weights: dict[str, Weights] = {}
    amounts = {}
    for pair in pairs:
        name = pair.first.output
        amount = _amount(pair.first, lowest.get(name), highest.get(name))
        if amount is None or not amount.any():
            continue
        first = weights.get(pair.first.name, Weights(pair.first.kernel, pair.first.bias))
        second = weights.get(pair.second.name, Weights(pair.second.kernel, pair.second.bias))
        normal = None if pair.first.normal is None else pair.first.normal.affine(1.0, -amount)
        weights[pair.first.name] = Weights(first.kernel, _moved(first.bias, -amount), normal)
        rows = weight_rows(pair.second, second.kernel, pair.first.channels).astype(np.float64)
        added = (rows @ per_patch(pair.second, amount, rows)[..., None]).ravel()
        weights[pair.second.name] = Weights(second.kernel, _moved(second.bias, added), second.normal)
        amounts[pair.names] = amount
    return Absorbed(graph.with_weights(weights), amounts)


def _unpadded(op: LinearOp) -> bool:
    return op.op == "FULLY_CONNECTED" or op.padding == "VALID" or op.kernel.shape[1:3] == (1, 1)


def _ends(graph: Graph, pairs: list[Pair], data: Data) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Smallest and largest value of each channel between the layers."""
    lowest: dict[str, np.ndarray] = {}
    highest: dict[str, np.ndarray] = {}
    for values in graph.capture([pair.first.output for pair in pairs], data) if pairs else ():
        for name, x in values.items():
            rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
            lowest[name] = np.minimum(lowest.get(name, np.inf), rows.min(axis=0))
            highest[name] = np.maximum(highest.get(name, -np.inf), rows.max(axis=0))
    return lowest, highest


def _amount(op: LinearOp, lowest: np.ndarray | None, highest: np.ndarray | None) -> np.ndarray | None:
    """max(0, mean - 3 deviations), or the smallest value seen; 0 for channels that reach the upper limit."""
    if op.normal is not None:
        lowest = op.normal.mean - _DEVIATIONS * op.normal.deviation
        highest = op.normal.mean + _DEVIATIONS * op.normal.deviation
    if lowest is None or highest is None:
        return None
    return np.where(highest < CLIPPED[op.activation][1], np.maximum(lowest, 0.0), 0.0)


def _moved(bias: np.ndarray | None, by: np.ndarray) -> np.ndarray:
    return ((0.0 if bias is None else bias.astype(np.float64)) + by).astype(np.float32)
