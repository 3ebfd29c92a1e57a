"""Cross-layer equalization (Nagel 2019, arXiv:1906.04721, section 4.1): gives the channels between two layers like
ranges, by dividing what one layer writes and multiplying what the next one reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tfq_pipeline.data import Data
from tfq_pipeline.graph.protocol import Graph, Weights
from tfq_pipeline.passes.channel_scaling import Pair, pairs_of, weights_of


@dataclass(frozen=True, eq=False)
class Equalized:
    """What came of it.

    Attributes:
        graph: computes what it did before.
        spread: by names of the two layers, ratio of the largest to the median range of the first one's channels,
            before and after.
    """

    graph: Graph
    spread: Mapping[tuple[str, str], tuple[float, float]]


def cross_layer_equalization(graph: Graph, data: Data | None = None, sweeps: int = 20) -> Equalized:
    """Equalizes every pair of linear layers of which the second alone reads what the first writes.

    Args:
        graph: folded.
        data: samples to find the largest activations with; without them pairs around a ReLU6 are left alone.
        sweeps: at most so many rounds over the pairs.
    """
    pairs = list(pairs_of(graph, data))
    weights = weights_of(pairs)
    before = [_spread(pair, weights) for pair in pairs]
    for _ in range(sweeps):
        largest = 0.0
        for i, pair in enumerate(pairs):
            factor = pair.within(_factor(pair, weights))
            weights.update(pair.scaled(weights, factor))
            pairs[i] = replace(pair, headroom=pair.headroom / factor)
            largest = max(largest, float(np.abs(np.log(factor)).max()))
        if largest < 1e-3:
            break
    spread = {pair.names: (was, _spread(pair, weights)) for pair, was in zip(pairs, before, strict=True)}
    return Equalized(graph.with_weights(weights), spread)


def _factor(pair: Pair, weights: Mapping[str, Weights]) -> np.ndarray:
    """What each channel between the layers is multiplied by: equation 11 of the paper, inverted."""
    writes, reads = pair.writes(weights), pair.reads(weights)
    alive = (writes > 0) & (reads > 0)
    factor: np.ndarray = np.where(alive, np.sqrt(reads / np.where(alive, writes, 1.0)), 1.0)
    return factor


def _spread(pair: Pair, weights: Mapping[str, Weights]) -> float:
    ranges = pair.writes(weights)
    return float(ranges.max() / max(float(np.median(ranges)), 1e-30))
