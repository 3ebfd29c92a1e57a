"""AWQ, activation-aware weight quantization (Lin 2024, arXiv:2306.00978): channels that carry large activations get
larger weights, which rounding hurts less.

Channel j between two layers is divided by s_j = (mean |X_j|)^alpha and the weights that read it are multiplied by s_j
(section 3.2). The exponent is the one of a grid with which the second layer's rounded weights change its output least.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tfq_pipeline.data import Data
from tfq_pipeline.graph.protocol import Graph
from tfq_pipeline.passes.channel_scaling import Pair, pairs_of, weights_of
from tfq_pipeline.passes.moments import moments
from tfq_pipeline.passes.patches import weight_rows
from tfq_pipeline.passes.quantize import Request, weight_plan

# A depthwise channel has a scale of its own: no factor changes how it is rounded.
_READERS = ("CONV_2D", "FULLY_CONNECTED")


@dataclass(frozen=True, eq=False)
class Scaled:
    """What came of it.

    Attributes:
        graph: computes what it did before.
        alphas: by names of the two layers, the exponent chosen.
        errors: by the same, mean squared error of the second layer's output over its mean square, with rounded weights,
            before and after.
    """

    graph: Graph
    alphas: Mapping[tuple[str, str], float]
    errors: Mapping[tuple[str, str], tuple[float, float]]


def awq(
    graph: Graph,
    data: Data,
    weights: Request,
    grid: int = 20,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Scaled:
    """Scales the channels between every pair of layers that factors cancel between.

    Args:
        graph: folded.
        data: samples.
        weights: how the weights will be quantized.
        grid: exponents tried are 0, 1 / grid, ..., 1.
        seed: of the choice of patches.
        progress: told the pairs done and the total.
    """
    pairs = [pair for pair in pairs_of(graph, data) if pair.second.op in _READERS]
    current = weights_of(pairs)
    magnitudes = _magnitudes(graph, [pair.first.output for pair in pairs], data)
    alphas, errors = {}, {}
    for done, pair in enumerate(pairs, 1):
        rng = np.random.default_rng(seed)
        a = moments([pair.second], graph, graph, data, rng)[pair.second.name].a
        magnitude = magnitudes[pair.first.output]
        tried = []
        for alpha in np.arange(grid + 1) / grid:
            factor = pair.within(_factor(magnitude, alpha))
            tried.append(
                (_error(pair, pair.scaled(current, factor)[pair.second.name].kernel, factor, a, weights), alpha)
            )
        # Of equal ones the smallest exponent, which changes least.
        best, alpha = min(tried)
        current.update(pair.scaled(current, pair.within(_factor(magnitude, alpha))))
        alphas[pair.names], errors[pair.names] = float(alpha), (tried[0][0], best)
        progress(done, len(pairs))
    return Scaled(graph.with_weights(current), alphas, errors)


def _magnitudes(graph: Graph, names: Sequence[str], data: Data) -> dict[str, np.ndarray]:
    """Mean magnitude of each channel of some tensors, float64 [channels]."""
    sums: dict[str, np.ndarray] = {}
    counts = dict.fromkeys(names, 0)
    for values in graph.capture(tuple(counts), data) if names else ():
        for name, x in values.items():
            rows = np.abs(x).reshape(-1, x.shape[-1])
            sums[name] = sums.get(name, 0.0) + rows.sum(axis=0, dtype=np.float64)
            counts[name] += len(rows)
    return {name: total / counts[name] for name, total in sums.items()}


def _factor(magnitude: np.ndarray, alpha: float) -> np.ndarray:
    """What each channel between the layers is multiplied by: 1 / s, s around 1; 1 for a channel that is always 0."""
    alive = magnitude > 0
    if not alive.any():
        return np.ones_like(magnitude)
    s = np.where(alive, magnitude, 1.0) ** alpha
    middle = np.sqrt(s[alive].min() * s[alive].max())
    factor: np.ndarray = np.where(alive, middle / s, 1.0)
    return factor


def _error(pair: Pair, kernel: np.ndarray, factor: np.ndarray, a: np.ndarray, weights: Request) -> float:
    """See `Scaled.errors`.

    Args:
        pair: the layers, with the weights of the float model.
        kernel: of the second layer, scaled.
        factor: what the channels that it reads were multiplied by.
        a: second moments of the second layer's patches before they were scaled.
        weights: how the weights will be quantized.
    """
    op = pair.second
    rounded = weight_plan(replace(op, kernel=kernel), weights, None).represented(kernel)
    real, moved = (weight_rows(op, k, len(factor)).astype(np.float64) for k in (kernel, rounded))
    # The factors that the weights have in them are not in the patches.
    channels = np.tile(factor, real.shape[-1] // len(factor))
    real, difference = real * channels, (moved - real) * channels
    lost, power = (float(np.einsum("gok,gkl,gol->", r, a, r, optimize=True)) for r in (difference, real))
    return lost / max(power, 1e-30)
