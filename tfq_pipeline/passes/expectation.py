"""What batch norm's statistics say of the tensors of a graph, without data (Nagel 2019, arXiv:1906.04721, appendix C).

A linear layer behind batch norm writes normally distributed channels, its ReLU clips them; sums add means and
variances, as if what is added were independent, and pooling keeps means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tfq_pipeline.data import Data
from tfq_pipeline.graph.protocol import Graph, LinearOp, Normal, Tensor
from tfq_pipeline.passes.patches import WITH_PATCHES, groups, weight_rows

# Lowest and highest value that an activation lets through.
CLIPPED: Mapping[str | None, tuple[float, float]] = {
    None: (-math.inf, math.inf),
    "RELU": (0.0, math.inf),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}

_erf = np.vectorize(math.erf, otypes=[np.float64])


def clipped_normal(normal: Normal, low: float, high: float) -> Normal:
    """Mean and deviation of a normal variable clipped to [low, high]: equations 33 to 38 of the paper."""
    deviation = np.maximum(normal.deviation, 1e-12)
    a, b = ((end - normal.mean) / deviation for end in (low, high))
    below, above = _cumulative(a), 1.0 - _cumulative(b)
    inside = 1.0 - below - above
    # Moments of the standard normal between a and b.
    first = _density(a) - _density(b)
    second = inside + _times_density(a) - _times_density(b)
    ends = [(0.0 if math.isinf(end) else end, share) for end, share in ((low, below), (high, above))]
    mean = normal.mean * inside + deviation * first + sum(end * share for end, share in ends)
    square = normal.mean**2 * inside + 2.0 * normal.mean * deviation * first + deviation**2 * second
    square = square + sum(end**2 * share for end, share in ends)
    return Normal(mean, np.sqrt(np.maximum(square - mean**2, 0.0)))


def _density(x: np.ndarray) -> np.ndarray:
    density: np.ndarray = np.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi)
    return density


def _times_density(x: np.ndarray) -> np.ndarray:
    """x times the density, 0 at infinity."""
    return np.where(np.isinf(x), 0.0, x) * _density(x)


def _cumulative(x: np.ndarray) -> np.ndarray:
    cumulative: np.ndarray = 0.5 * (1.0 + _erf(x / math.sqrt(2.0)))
    return cumulative


def expectations(graph: Graph, data: Data | None = None) -> dict[str, Normal]:
    """Distribution of each channel (the last axis) of the tensors of which it can be told, by tensor.

    Args:
        graph: folded.
        data: samples to measure those tensors with that batch norm says nothing of.
    """
    tensors = graph.tensors()
    ops = {op.output: op for op in graph.linear_ops()}
    measured = _measured(graph, [t for t in tensors if _unknown(t, ops)], data) if data is not None else {}
    found: dict[str, Normal] = {}
    for tensor in tensors:
        normal = measured.get(tensor.name) or _derived(tensor, ops.get(tensor.name), found)
        if normal is not None:
            found[tensor.name] = normal
    return found


def _unknown(tensor: Tensor, ops: Mapping[str, LinearOp]) -> bool:
    op = ops.get(tensor.name)
    return op.normal is None if op is not None else tensor.same_scale_as is None


def _measured(graph: Graph, tensors: Sequence[Tensor], data: Data) -> dict[str, Normal]:
    names = [t.name for t in tensors]
    count = dict.fromkeys(names, 0)
    sums: dict[str, np.ndarray] = {}
    for values in graph.capture(names, data):
        for name in names:
            rows = values[name].reshape(-1, values[name].shape[-1]).astype(np.float64)
            sums[name] = sums.get(name, 0.0) + np.stack([rows.sum(axis=0), (rows**2).sum(axis=0)])
            count[name] += len(rows)
    moments = {name: total / count[name] for name, total in sums.items()}
    return {name: Normal(m, np.sqrt(np.maximum(square - m**2, 0.0))) for name, (m, square) in moments.items()}


def _derived(tensor: Tensor, op: LinearOp | None, known: Mapping[str, Normal]) -> Normal | None:
    sources = [known.get(name) for name in tensor.reads]
    if tensor.activation not in CLIPPED or not sources or any(s is None for s in sources):
        normal = None if op is None else op.normal
    elif op is not None:
        normal = op.normal or _linear(op, sources[0])
    elif tensor.op == "ADD" and len(sources) > 1:
        normal = _sum(sources)
    elif tensor.op == "MEAN" or tensor.same_scale_as is not None:
        return _repeated(sources[0], tensor.shape[-1])
    else:
        return None
    if normal is None or tensor.activation not in CLIPPED:
        return None
    low, high = CLIPPED[tensor.activation]
    return normal if math.isinf(low) else clipped_normal(normal, low, high)


def _linear(op: LinearOp, source: Normal | None) -> Normal | None:
    """What a layer without batch norm writes, of independent inputs."""
    if source is None or op.op not in WITH_PATCHES:
        return None
    channels = len(source.mean)
    rows = weight_rows(op, op.kernel, channels).astype(np.float64)
    mean, variance = (per_patch(op, v, rows) for v in (source.mean, source.deviation**2))
    bias = 0.0 if op.bias is None else op.bias.astype(np.float64)
    outputs = (rows @ mean[..., None]).ravel() + bias
    return Normal(outputs, np.sqrt((rows**2 @ variance[..., None]).ravel()))


def per_patch(op: LinearOp, channels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A value for each input channel as one for each value of a patch, [groups, values]."""
    count = groups(op, len(channels))
    return np.tile(channels.reshape(count, -1), (1, rows.shape[-1] // (len(channels) // count)))


def _sum(sources: Sequence[Normal | None]) -> Normal | None:
    means = [s.mean for s in sources if s is not None]
    if len({len(m) for m in means}) != 1:
        return None
    variance = sum(s.deviation**2 for s in sources if s is not None)
    return Normal(np.sum(means, axis=0), np.sqrt(variance))


def _repeated(source: Normal | None, channels: int | None) -> Normal | None:
    """The same channels, or all of them once for each place that a reshape laid side by side."""
    if source is None or channels is None or channels % len(source.mean):
        return None
    count = channels // len(source.mean)
    return Normal(np.tile(source.mean, count), np.tile(source.deviation, count))
