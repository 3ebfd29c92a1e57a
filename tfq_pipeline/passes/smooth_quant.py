"""SmoothQuant (Xiao 2023, arXiv:2211.10438): moves the outliers of activations into weights, which bear them better.

Channel j between two layers is divided by s_j = max|X_j|^alpha / max|W_j|^(1 - alpha), where X is what the second layer
reads and W its weights (equation 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tfq_pipeline.data import Data
from tfq_pipeline.graph.protocol import Graph
from tfq_pipeline.passes.channel_scaling import pairs_of, weights_of


@dataclass(frozen=True, eq=False)
class Smoothed:
    """What came of it.

    Attributes:
        graph: computes what it did before.
        spread: by names of the two layers, ratio of the largest to the median activation of the channels between them,
            before and after.
    """

    graph: Graph
    spread: Mapping[tuple[str, str], tuple[float, float]]


def smooth_quant(graph: Graph, data: Data, alpha: float = 0.5) -> Smoothed:
    """Smooths the activations between every pair of layers that factors cancel between.

    Args:
        graph: folded.
        data: samples.
        alpha: how much of the difficulty goes into the weights, 0 to 1.
    """
    pairs = pairs_of(graph, data)
    largest = {pair.first.output: np.zeros(pair.first.channels) for pair in pairs}
    for values in graph.capture(tuple(largest), data):
        for name, x in values.items():
            largest[name] = np.maximum(largest[name], np.abs(x).reshape(-1, x.shape[-1]).max(axis=0))
    weights = weights_of(pairs)
    spread = {}
    for pair in pairs:
        activations, reads = largest[pair.first.output], pair.reads(weights)
        alive = (activations > 0) & (reads > 0)
        smoothing = np.where(alive, activations, 1.0) ** alpha / np.where(alive, reads, 1.0) ** (1.0 - alpha)
        # Only ratios between channels matter to the scale of the whole tensor.
        factor = pair.within(np.exp(np.log(smoothing[alive]).mean() if alive.any() else 0.0) / smoothing)
        weights.update(pair.scaled(weights, factor))
        spread[pair.names] = (_spread(activations), _spread(activations * factor))
    return Smoothed(graph.with_weights(weights), spread)


def _spread(largest: np.ndarray) -> float:
    return float(largest.max() / max(float(np.median(largest)), 1e-30))
