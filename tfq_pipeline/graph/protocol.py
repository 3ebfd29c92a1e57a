"""The float model as passes see it: linear operators, the tensors between them, and a stream of what flows through.

A pass knows no framework: it reads `LinearOp`s and `Tensor`s and asks the graph for a new graph with other weights.
Weights are in TFLite's layout whatever the backend: convolution OHWI, depthwise 1HWC, dense [out, in].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from tfq_pipeline.data import Data, InputSpec

Padding = Literal["SAME", "VALID", "CAUSAL"]


@dataclass(frozen=True, eq=False)
class Normal:
    """How each channel of a tensor is distributed, as far as batch norm's statistics say.

    Attributes:
        mean, deviation: float64 [channels].
    """

    mean: np.ndarray
    deviation: np.ndarray

    def affine(self, scale: np.ndarray | float, shift: np.ndarray | float = 0.0) -> Normal:
        """The distribution of scale * x + shift."""
        return Normal(self.mean * scale + shift, self.deviation * np.abs(scale))


@dataclass(frozen=True, eq=False)
class LinearOp:
    """An operator with a weight matrix.

    Attributes:
        name: layer name, unique in the graph.
        type: class of the user's layer, such as ``Conv2D``; the operator again where there are no layers.
        op: TFLite builtin operator, such as ``CONV_2D``.
        kernel: float32 weights in TFLite layout.
        bias: float32 [channels], or None.
        channel_axis: axis of the output channels in `kernel`.
        input: name of the tensor it reads.
        output: name of the tensor it writes, after its fused activation.
        activation: "RELU", "RELU6" and the like where one is fused, else None.
        strides, dilations: along height and width; (1, 1) for a dense layer.
        padding: "SAME" or "VALID" as TFLite has them, or "CAUSAL" (zeros in front alone); "VALID" for a dense layer.
        normal: distribution of what it computes before its activation, where a batch norm that was folded says it.
        calls: how often the model calls the layer.
    """

    name: str
    type: str
    op: str
    kernel: np.ndarray
    bias: np.ndarray | None
    channel_axis: int
    input: str
    output: str
    activation: str | None = None
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    padding: Padding = "VALID"
    normal: Normal | None = None
    calls: int = 1

    @property
    def channels(self) -> int:
        return int(self.kernel.shape[self.channel_axis])


@dataclass(frozen=True)
class Tensor:
    """An activation that is stored between operators.

    Attributes:
        name: name of the layer that writes it (the input's name for a model input).
        type: class of that layer.
        shape: shape without the batch dimension, None where it is free.
        reads: names of the tensors that the layer which writes it reads, constants left out.
        same_scale_as: name of the tensor whose scale it must share (pooling, reshape, padding read and write one
            scale), else None.
        joined: names that have to share a scale with it because one operator reads them together (concatenation).
        fixed: (scale, zero point) at 8 bits where TFLite fixes them (softmax, sigmoid, tanh), else None.
        float_only: why it has to stay float, None where there is an integer operator that writes it.
        op: TFLite builtin operator that writes it; None for an input, and where a layer becomes several operators or
            passes need not know it.
        activation: what that operator applies to its result, as in `LinearOp`.
    """

    name: str
    type: str
    shape: tuple[int | None, ...]
    reads: tuple[str, ...] = ()
    same_scale_as: str | None = None
    joined: tuple[str, ...] = ()
    fixed: tuple[float, int] | None = None
    float_only: str | None = None
    op: str | None = None
    activation: str | None = None


@dataclass(frozen=True, eq=False)
class Weights:
    """New values for a linear operator: kernel in TFLite layout, bias [channels] or None, both float32; the
    distribution of what it then computes, None where that stays as it was."""

    kernel: np.ndarray
    bias: np.ndarray | None
    normal: Normal | None = None


@dataclass(frozen=True, eq=False)
class SidePath:
    """What becomes of a linear operator when a part of it is computed by another one, on some of its input's channels.

    Attributes:
        channels: int32 [k], which the part reads.
        main: kernel of what stays, TFLite layout.
        side: kernel of the part, the same with k input channels.
    """

    channels: np.ndarray
    main: np.ndarray
    side: np.ndarray


# The operators that one with a side path becomes, by what stands behind its name: what stays of it, the channels of its
# input that the side path reads, the side path. Their sum, with the activation, has the name itself; where the backend
# keeps sum and activation apart, the sum has one of its own.
MAIN, CHANNELS, SIDE, SUM = "_main", "_channels", "_side", "_sum"


class Graph(Protocol):
    """What every backend gives. All methods are pure: those that change something return a new graph."""

    @property
    def inputs(self) -> tuple[InputSpec, ...]: ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors that leave the model."""
        ...

    def linear_ops(self) -> tuple[LinearOp, ...]:
        """Linear operators in execution order."""
        ...

    def tensors(self) -> tuple[Tensor, ...]:
        """Activations in execution order, model inputs first."""
        ...

    def batch_norms(self) -> tuple[str, ...]:
        """Names of the batch normalizations that are not folded."""
        ...

    def with_weights(self, updates: Mapping[str, Weights]) -> Graph: ...

    def with_side_paths(self, paths: Mapping[str, SidePath]) -> Graph:
        """The graph with linear operators, each called once, taken apart as said; computes what it did where main and
        side kernels add up."""
        ...

    def fold_batch_norm(self) -> Graph: ...

    def capture(self, names: Sequence[str], data: Data) -> Iterator[dict[str, np.ndarray]]:
        """Streams the named tensors, one dict a batch of `data`: [batch, ...] float32.

        Where a layer is called several times its calls come one after the other along the batch axis.
        """
        ...

    def run(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Outputs of the float model for one batch."""
        ...
