"""Pruning: weights that matter least become 0 and stay it, through rounding, reconstruction and training.

The pass decides which; the plan carries it (`TensorPlan.kept`). See `numerics.sparsity` for the papers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.protocol import Graph, LinearOp, Weights
from tfq_pipeline.numerics.sparsity import block_means, lamp, largest, n_of_m

Pattern = Literal["magnitude", "2:4", "block"]
Scope = Literal["layer", "model"]

# A depthwise filter has one input channel: there is nothing beside a weight to make a pattern with.
_WITHOUT_NEIGHBOURS = ("DEPTHWISE_CONV_2D",)


@dataclass(frozen=True)
class Pruning:
    """What is asked.

    Attributes:
        pattern: "magnitude": any weights; "2:4": two of every four neighbouring input channels; "block": `block`
            neighbouring input channels at once.
        sparsity: share of the weights that go; of "2:4" it is a half.
        scope: what the share is of: each layer, or all of them together, where layers that bear it lose more.
        block: input channels of a block.
    """

    pattern: Pattern = "magnitude"
    sparsity: float = 0.5
    scope: Scope = "layer"
    block: int = 16


@dataclass(frozen=True, eq=False)
class Pruned:
    """What came of it.

    Attributes:
        graph: with zeros.
        kept: by pruned layer, bool of the kernel's shape, True where a weight stays.
        whole: by layer that keeps all its weights, why.
    """

    graph: Graph
    kept: Mapping[str, np.ndarray]
    whole: Mapping[str, str]


def prune(graph: Graph, asked: Pruning, skipped: Callable[[LinearOp], bool] = lambda op: False) -> Pruned:
    """Sets weights to 0.

    Args:
        graph: folded.
        asked: pattern and share.
        skipped: whether a layer is to keep all its weights.

    Raises:
        BadInput: where all layers do.
    """
    ops, whole = takers(graph, asked, skipped, "prune")
    kept = masks({op.name: np.abs(op.kernel) for op in ops}, asked)
    zeros = {op.name: Weights(np.where(kept[op.name], op.kernel, np.float32(0)), op.bias) for op in ops}
    return Pruned(graph.with_weights(zeros), kept, whole)


def takers(
    graph: Graph, asked: Pruning, skipped: Callable[[LinearOp], bool], option: str
) -> tuple[list[LinearOp], dict[str, str]]:
    """The layers that take a pattern, and by layer that keeps all its weights, why.

    Args:
        graph: folded.
        asked: pattern and share.
        skipped: whether a layer is to keep all its weights.
        option: of the recipe that asks, for messages.

    Raises:
        BadInput: where no layer does.
    """
    whole, ops = {}, []
    for op in graph.linear_ops():
        reason = "the recipe skips it" if skipped(op) else _why_whole(op, asked)
        if reason is None:
            ops.append(op)
        else:
            whole[op.name] = reason
    if not ops:
        reasons = "; ".join(f"'{name}': {reason}" for name, reason in whole.items())
        raise BadInput(
            f"recipe: {option}: no layer takes pattern {asked.pattern} ({reasons}); "
            "take another pattern or block, or skip fewer layers"
        )
    return ops, whole


def _why_whole(op: LinearOp, asked: Pruning) -> str | None:
    if asked.pattern == "magnitude":
        return None
    if op.op in _WITHOUT_NEIGHBOURS:
        return "a depthwise filter has no neighbouring input channels"
    size = 4 if asked.pattern == "2:4" else asked.block
    channels = op.kernel.shape[-1]
    return None if channels % size == 0 else f"its {channels} input channels are no multiple of {size}"


def masks(magnitudes: Mapping[str, np.ndarray], asked: Pruning) -> dict[str, np.ndarray]:
    """Which weights stay, bool by layer, given their magnitudes by layer in TFLite's layout."""
    if asked.pattern == "2:4":
        return {name: n_of_m(values, 2, 4) for name, values in magnitudes.items()}
    # Of a block the root of the mean square, so that LAMP's squares are those of blocks.
    size = asked.block if asked.pattern == "block" else 1
    scores = {name: np.sqrt(block_means(np.square(values), size)) for name, values in magnitudes.items()}
    if asked.scope == "layer":
        return {name: _whole_blocks(values, size, asked.sparsity) for name, values in scores.items()}
    compared = lamp({name: values[..., ::size] for name, values in scores.items()})
    mask = largest(np.concatenate([values.ravel() for values in compared.values()]), asked.sparsity)
    ends = np.cumsum([values.size for values in compared.values()])[:-1]
    parts = zip(compared.items(), np.split(mask, ends), strict=True)
    return {name: np.repeat(part.reshape(values.shape), size, axis=-1) for (name, values), part in parts}


def _whole_blocks(scores: np.ndarray, size: int, share: float) -> np.ndarray:
    """The largest blocks, whose values are all the same."""
    return np.repeat(largest(scores[..., ::size], share), size, axis=-1)
