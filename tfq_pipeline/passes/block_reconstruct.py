"""Block-wise reconstruction: tunes what quantized layers of a block have in common, so that the block computes what it
did (Li 2021, arXiv:2102.05426).

Blocks are taken in the order of execution. Each sees its input as the blocks before it, already tuned, give it, and is
asked for what the float model gives. What a tuner finds is kept where the block's error falls.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tfq_pipeline.data import Data
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.protocol import Graph, LinearOp, Weights
from tfq_pipeline.passes.blocks import Block, blocks_of
from tfq_pipeline.passes.fisher import squared_gradients
from tfq_pipeline.passes.reconstruct import Reconstruction
from tfq_pipeline.plan import Plan, TensorPlan

# Bytes of a block's inputs and outputs that are held; of more samples the first that fit are looked at.
_HELD = 2**28

_BATCH = 64

# Share of the largest output that TensorFlow and the graph may differ by in a block that both compute.
_ALIKE = 1e-3


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear operator of a block.

    Attributes:
        op: with float weights.
        planned: how they are quantized.
        bias: float32 [channels], as tuned so far.
    """

    op: LinearOp
    planned: TensorPlan
    bias: np.ndarray

    @property
    def kernel(self) -> np.ndarray:
        """The weights that the file will hold, float32."""
        return self.planned.represented(self.op.kernel)


Layers = Mapping[str, Layer]


@dataclass(frozen=True, eq=False)
class Samples:
    """What a block is tuned on, float32 [samples, ...] each.

    Attributes:
        input: of the block, as the quantized graph gives it.
        output: what the float model has there.
        importance: of each value of the output, 1 in the mean.
    """

    input: np.ndarray
    output: np.ndarray
    importance: np.ndarray


class Tuner(Protocol):
    """Changes the integers or biases of a block's layers."""

    def __call__(
        self, block: Block, layers: Layers, samples: Samples, rng: np.random.Generator, progress: Callable[[], None]
    ) -> Layers:
        """The layers with what makes the block's error small.

        Args:
            block: whose layers they are.
            layers: by operator name; those that stay float are not to be changed.
            samples: to tune on.
            rng: picks them.
            progress: called now and then.
        """
        ...


def reconstruct_blocks(
    reference: Graph,
    graph: Graph,
    plan: Plan,
    data: Data,
    tuner: Tuner,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Reconstruction:
    """Tunes all blocks that have quantized layers.

    Args:
        reference: folded; its outputs are wanted.
        graph: the same with the biases to start from.
        plan: with scales for the weights.
        data: samples.
        tuner: of a block.
        seed: of what the tuner picks, and of the labels drawn to weigh errors.
        progress: told the blocks done and the total; also within a block.

    Returns:
        Errors are by the block's output: weighted squared error over weighted square.
    """
    rng = np.random.default_rng(seed)
    biases = {op.name: np.zeros(op.channels, np.float32) if op.bias is None else op.bias for op in graph.linear_ops()}
    blocks = [b for b in blocks_of(reference) if any(not plan.weights[op.name].is_float for op in b.ops.values())]
    quantized = [op for op in graph.linear_ops() if not plan.weights[op.name].is_float]
    after = graph.with_weights(
        {op.name: Weights(plan.weights[op.name].represented(op.kernel), op.bias) for op in quantized}
    )
    errors: dict[str, tuple[float, float]] = {}
    tuned: dict[str, Layer] = {}
    for done, block in enumerate(blocks):
        layers = {op.name: Layer(op, plan.weights[op.name], biases[op.name]) for op in block.ops.values()}
        samples = _samples(block, reference, after, data, seed)
        if samples is not None:
            new = tuner(block, layers, samples, rng, lambda done=done: progress(done, len(blocks)))  # type: ignore[misc]
            before, found = error(block, layers, samples), error(block, new, samples)
            errors[block.output] = (before, min(before, found))
            if found < before:
                after = after.with_weights({name: Weights(layer.kernel, layer.bias) for name, layer in new.items()})
                tuned.update(new)
        progress(done + 1, len(blocks))
    return Reconstruction(
        graph.with_weights({name: Weights(layer.op.kernel, layer.bias) for name, layer in tuned.items()}),
        plan.with_weights({name: layer.planned for name, layer in tuned.items()}),
        errors,
    )


def error(block: Block, layers: Layers, samples: Samples) -> float:
    """Weighted squared error of a block's output over its weighted square."""
    weights = {name: (layer.kernel, layer.bias) for name, layer in layers.items()}
    lost = power = 0.0
    for start in range(0, len(samples.input), _BATCH):
        part = slice(start, start + _BATCH)
        wanted, importance = samples.output[part], samples.importance[part]
        given = block.run(samples.input[part], weights)[block.output].numpy()
        lost += float(np.sum(importance * (given - wanted) ** 2, dtype=np.float64))
        power += float(np.sum(importance * wanted**2, dtype=np.float64))
    return lost / max(power, 1e-30)


def _samples(block: Block, reference: Graph, after: Graph, data: Data, seed: int) -> Samples | None:
    """Inputs and outputs of a block; None where the graph computes something else than the block, such as a layer that
    is called twice."""
    float_weights = {op.name: (op.kernel, 0.0 if op.bias is None else op.bias) for op in block.ops.values()}
    gradients: Iterator[Any] | None = squared_gradients(reference, block.output, data, seed)
    parts: list[tuple[np.ndarray, ...]] = []
    held = 0
    names = tuple(dict.fromkeys((block.input, block.output)))
    for floats, quantized, squares in zip(  # noqa: B905  the gradients may be endless
        reference.capture(names, data), after.capture((block.input,), data), gradients or itertools.repeat(None)
    ):
        x, wanted = floats[block.input], floats[block.output]
        if not parts and not _alike(block.run(x, float_weights)[block.output].numpy(), wanted):
            return None
        parts.append((quantized[block.input], wanted, np.ones_like(wanted) if squares is None else squares))
        held += sum(part.nbytes for part in parts[-1])
        if held > _HELD:
            break
    if not parts:
        raise BadInput(f"calibration data {data.name}: found no samples; give at least one, 100 to 1000 are usual")
    inputs, outputs, slopes = (np.concatenate(column) for column in zip(*parts, strict=True))
    # A model has next to no slope where it is sure of its answer; the 1 keeps it from forgetting those samples.
    importance = 0.5 + 0.5 * slopes / max(float(slopes.mean(dtype=np.float64)), 1e-30)
    return Samples(inputs, outputs, importance.astype(np.float32))


def _alike(left: np.ndarray, right: np.ndarray) -> bool:
    return left.shape == right.shape and bool(np.abs(left - right).max() <= _ALIKE * max(np.abs(right).max(), 1e-30))
