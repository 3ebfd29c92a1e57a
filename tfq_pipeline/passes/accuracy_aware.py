"""Accuracy-aware quantization: of several ways to quantize a model the best one, and layers given back to more bits,
the most harmful first, until the model is good enough.

How harmful a layer is shows in what the model's outputs lose when its weights alone are quantized.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfq_pipeline.data import Data
from tfq_pipeline.graph.protocol import Graph, Weights
from tfq_pipeline.plan import Plan, TensorPlan


@dataclass(frozen=True, eq=False)
class Score:
    """How a quantized model does on held-out data.

    Attributes:
        right: which answers are right, bool [answers].
        drop: points that it loses against the float model.
        error: mean squared difference of its outputs from the float model's, over their variance.
    """

    right: np.ndarray
    drop: float
    error: float


def score(outputs: np.ndarray, wanted: np.ndarray, truth: np.ndarray) -> Score:
    """Compares outputs with the float model's, both [..., classes], and with the true classes [...]."""
    right = outputs.argmax(axis=-1) == truth
    lost = int((wanted.argmax(axis=-1) == truth).sum()) - int(right.sum())
    error = float(np.mean((outputs - wanted) ** 2, dtype=np.float64)) / max(float(np.var(wanted)), 1e-30)
    return Score(right.ravel(), 100.0 * lost / max(right.size, 1), error)


def best(scores: Sequence[Score]) -> int:
    """Index of the one whose outputs are nearest to the float model's, of those that the samples do not show to be
    worse than the one that loses least.

    A few thousand samples tell accuracies apart to some tenths of a point, outputs much more finely. One model is worse
    than another if it loses more answers to it than it wins by over one standard deviation of that difference (McNemar
    1947).
    """
    least = min(scores, key=lambda s: s.drop)

    def worse(one: Score) -> bool:
        lost, won = int((least.right & ~one.right).sum()), int((one.right & ~least.right).sum())
        return lost - won > math.sqrt(lost + won)

    return min((i for i, one in enumerate(scores) if not worse(one)), key=lambda i: scores[i].error)


@dataclass(frozen=True, eq=False)
class FallBack:
    """What came of it.

    Attributes:
        plan: the plan with the fewest layers given back that reaches the target, or with all of them.
        layers: those given back, most harmful first.
        drop: of that plan, in points.
        tried: number of layers given back and the drop, in the order in which they were tried.
    """

    plan: Plan
    layers: tuple[str, ...]
    drop: float
    tried: tuple[tuple[int, float], ...]


def sensitivity(graph: Graph, plan: Plan, data: Data) -> dict[str, float]:
    """Mean squared change of the model's outputs, over their variance, when one layer's weights alone are quantized.

    Args:
        graph: folded, float.
        plan: with a decision for every linear layer.
        data: samples; a few dozen are enough to rank layers.
    """
    wanted = [graph.run(batch.inputs) for batch in data]
    spread = sum(float(np.var(output)) * output.size for outputs in wanted for output in outputs)
    found = {}
    for op in graph.linear_ops():
        planned = plan.weights[op.name]
        if planned.is_float:
            continue
        alone = graph.with_weights({op.name: Weights(planned.represented(op.kernel), op.bias)})
        lost = 0.0
        for batch, outputs in zip(data, wanted, strict=True):
            for got, output in zip(alone.run(batch.inputs), outputs, strict=True):
                lost += float(np.sum((got - output) ** 2, dtype=np.float64))
        found[op.name] = lost / max(spread, 1e-30)
    return found


def fall_back(
    plan: Plan,
    wider: Mapping[str, TensorPlan],
    order: Sequence[str],
    drop: Callable[[Plan], float],
    target: float,
    first: float,
) -> FallBack:
    """The least number of layers, taken in order, that have to be given back: by bisection.

    Args:
        plan: the plan to mend.
        wider: by layer, the decision with more bits.
        order: layers that may be given back, most harmful first.
        drop: the model's loss in points under a plan; falls, by and large, as layers are given back.
        target: what it may be.
        first: what it is under `plan` itself.
    """

    def given_back(count: int) -> Plan:
        return plan.with_weights({name: wider[name] for name in order[:count]})

    tried = [(0, first)]
    low, high = 0, len(order)  # `low` layers are too few
    best = (0, first)
    if first > target and order:
        best = (high, drop(given_back(high)))
        tried.append(best)
        while high - low > 1:
            middle = (low + high) // 2
            tried.append((middle, drop(given_back(middle))))
            if tried[-1][1] <= target:
                high, best = middle, tried[-1]
            else:
                low = middle
    return FallBack(given_back(best[0]), tuple(order[: best[0]]), best[1], tuple(tried))
