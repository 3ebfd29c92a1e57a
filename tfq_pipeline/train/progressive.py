"""Progressive quantization: weights go through more bits on the way to theirs (Zhuang et al. 2018, arXiv:1711.00205,
section 3.2), each training going on from the weights, ranges and biases of the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.plan import Plan, TensorPlan
from tfq_pipeline.train.qat import Trained


def progressive(
    graph: KerasGraph,
    plan: Plan,
    stages: Sequence[tuple[int, int]],
    epochs: int,
    train: Callable[[KerasGraph, Plan, int], Trained],
) -> Trained:
    """Trains with more bits first.

    Args:
        graph: folded.
        plan: to end with.
        stages: bits, falling, and epochs: weights with fewer bits are trained at these. Their ranges stay, integers
            that a pass chose do not.
        epochs: of the training at the plan's own bits, the last.
        train: trains a graph under a plan for so many epochs.

    Returns:
        What the last training ended with, with the history of all.

    Raises:
        BadInput: for a stage in which no weights are wider than planned.
    """
    wanted = {name: planned.bits for name, planned in plan.weights.items() if not planned.is_float}
    least = min(wanted.values(), default=0)
    for bits, _ in stages:
        if bits <= least:
            raise BadInput(
                f"recipe: qat.progressive: has a stage of {bits} bits, and no weights are planned with fewer; "
                "leave it out"
            )
    reached, history = Trained(graph, plan, {}), dict[str, list[float]]()
    for bits, length in (*stages, (0, epochs)):
        weights = {name: _with_bits(reached.plan.weights[name], max(bits, own)) for name, own in wanted.items()}
        reached = train(reached.graph, reached.plan.with_weights(weights), length)
        for name, values in reached.history.items():
            history.setdefault(name, []).extend(values)
    return replace(reached, history=history)


def _with_bits(planned: TensorPlan, bits: int) -> TensorPlan:
    """The same range with other bits."""
    if bits == planned.bits:
        return planned
    assert planned.affine is not None
    scale = planned.affine.scale * planned.affine.scale.dtype.type(_top(planned.bits) / _top(bits))
    return replace(planned, bits=bits, affine=replace(planned.affine, bits=bits, scale=scale), values=None)


def _top(bits: int) -> int:
    return 2 ** (bits - 1) - 1
