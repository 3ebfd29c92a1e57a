"""Factors that move from the output channels of one layer into the input channels of the next.

Between the two there may be a ReLU, which any positive factor passes through, or a ReLU6, which a factor passes through
only as far as no value meets its limit; for that the largest value of each channel has to be known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfq_pipeline.data import Data
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.protocol import Graph, LinearOp, Weights

# Highest value of the activations that scale with their input below it.
_LIMITS: Mapping[str | None, float] = {None: np.inf, "RELU": np.inf, "RELU6": 6.0}

# A channel's factor stays within these: dead channels have no range to compare.
_LARGEST_FACTOR = 1e3


@dataclass(frozen=True, eq=False)
class Pair:
    """Two layers of which the second alone reads what the first writes.

    Attributes:
        first, second: the layers.
        headroom: the largest factor that each channel between them can be multiplied by, float64 [channels]; 1 where
            none but 1 leaves the values as they are.
    """

    first: LinearOp
    second: LinearOp
    headroom: np.ndarray

    @property
    def names(self) -> tuple[str, str]:
        return self.first.name, self.second.name

    def within(self, factor: np.ndarray) -> np.ndarray:
        """The factors nearest to those wanted that change nothing but ranges."""
        free = np.where(self.headroom > 1.0, np.minimum(factor, self.headroom), 1.0)
        return np.clip(free, 1.0 / _LARGEST_FACTOR, _LARGEST_FACTOR)

    def writes(self, weights: Mapping[str, Weights]) -> np.ndarray:
        """Largest weight of each output channel of the first layer, [channels]."""
        kernel = np.abs(weights[self.first.name].kernel)
        rows: np.ndarray = np.moveaxis(kernel, self.first.channel_axis, 0).reshape(self.first.channels, -1)
        return rows.max(axis=1)

    def reads(self, weights: Mapping[str, Weights]) -> np.ndarray:
        """Largest weight of the second layer that meets each channel, [channels]."""
        kernel = np.abs(weights[self.second.name].kernel)
        if self.second.op == "DEPTHWISE_CONV_2D":
            kernel = kernel.reshape(-1, self.first.channels, kernel.shape[3] // self.first.channels).transpose(0, 2, 1)
        return kernel.reshape(-1, self.first.channels).max(axis=0)

    def scaled(self, weights: Mapping[str, Weights], factor: np.ndarray) -> dict[str, Weights]:
        """Weights of both layers with every channel between them multiplied by its factor."""
        first, second = weights[self.first.name], weights[self.second.name]
        shape = [1] * first.kernel.ndim
        shape[self.first.channel_axis] = -1
        bias = None if first.bias is None else (first.bias * factor).astype(np.float32)
        normal = None if first.normal is None else first.normal.affine(factor)
        inverse = np.repeat(1.0 / factor, second.kernel.shape[-1] // len(factor))
        return {
            self.first.name: Weights((first.kernel * factor.reshape(shape)).astype(np.float32), bias, normal),
            self.second.name: Weights((second.kernel * inverse).astype(np.float32), second.bias, second.normal),
        }


def weights_of(pairs: Sequence[Pair]) -> dict[str, Weights]:
    """The weights of all layers of some pairs, by name.

    Raises:
        BadInput: for weights with NaN or infinity, naming the layer.
    """
    for op in (op for pair in pairs for op in (pair.first, pair.second)):
        if not (np.isfinite(op.kernel).all() and (op.bias is None or np.isfinite(op.bias).all())):
            raise BadInput(
                f"layer '{op.name}' ({op.type}): its weights have NaN or infinity; train or export the model again"
            )
    return {op.name: Weights(op.kernel, op.bias, op.normal) for pair in pairs for op in (pair.first, pair.second)}


def pairs_of(graph: Graph, data: Data | None) -> tuple[Pair, ...]:
    """Pairs of layers between which factors cancel, in execution order.

    Args:
        graph: folded.
        data: samples to find the largest activations with; without them pairs around a ReLU6 are left out.
    """
    ops = {op.name: op for op in graph.linear_ops()}
    readers: dict[str, list[str]] = {}
    for tensor in graph.tensors():
        for source in tensor.reads:
            readers.setdefault(source, []).append(tensor.name)
    found = []
    for first in ops.values():
        following = readers.get(first.output, [])
        if len(following) != 1 or first.output in graph.outputs or first.activation not in _LIMITS:
            continue
        second = ops.get(following[0])
        if second is not None and second.input == first.output and _meets_channels(second, first.channels):
            found.append((first, second))
    headroom = _headroom([first for first, _ in found], graph, data)
    return tuple(Pair(first, second, headroom[first.name]) for first, second in found if first.name in headroom)


def _meets_channels(op: LinearOp, channels: int) -> bool:
    """Whether each input channel meets weights of its own, so that a factor can be put into them."""
    if op.op == "DEPTHWISE_CONV_2D":
        return int(op.kernel.shape[3]) % channels == 0
    return op.op in ("CONV_2D", "FULLY_CONNECTED") and int(op.kernel.shape[-1]) == channels


def _headroom(ops: Sequence[LinearOp], graph: Graph, data: Data | None) -> dict[str, np.ndarray]:
    """By layer, see `Pair.headroom`; layers of which it is not known are left out."""
    found = {op.name: np.full(op.channels, np.inf) for op in ops if np.isinf(_LIMITS[op.activation])}
    limited = {op.output: op for op in ops if op.name not in found}
    if data is None or not limited:
        return found
    largest = {name: np.zeros(op.channels) for name, op in limited.items()}
    for values in graph.capture(tuple(limited), data):
        for name, x in values.items():
            largest[name] = np.maximum(largest[name], x.reshape(-1, x.shape[-1]).max(axis=0))
    for name, op in limited.items():
        limit = _LIMITS[op.activation]
        found[op.name] = np.where(largest[name] > 0, limit / np.maximum(largest[name], 1e-30), np.inf)
    return found
