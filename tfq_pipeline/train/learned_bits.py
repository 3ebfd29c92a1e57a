"""Learned bit-widths: fractional bits (Yang and Jin 2021, FracBits, arXiv:2007.02017) under a budget.

    loss = task + multiplier * excess + error * sum of |Q - w|^2 / |w|^2 + regularization * mean bits

The excess is cost / limit - 1, where the cost is that of the layers at their fractional bits, interpolated between the
entries of a table like the weights themselves. The paper has a fixed weight there, whose right value nobody knows; here
it is the multiplier of the budget, which rises while the cost is above the limit and falls below it, so that it ends
where a bit is worth to the task what it costs. Half the squared excess times a constant is added, which keeps both from
swinging (the augmented Lagrangian: Hestenes 1969, Rockafellar 1973). At the end each layer takes one width: those
nearest to what was learned that are within the limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfq_pipeline.annotate.quantizers import FractionalWeights
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.protocol import Graph
from tfq_pipeline.passes.calibrate import scale_source
from tfq_pipeline.passes.cost import COSTS, latency, work
from tfq_pipeline.passes.quantize import Request, runnable
from tfq_pipeline.plan import Plan
from tfq_pipeline.train.companion import Companion

# What the multiplier rises by in a step at twice the limit, and the weight of the squared excess.
_RISE, _DAMPING = 0.01, 2.0

# Steps between two entries of the log, and what their names begin with.
_LOGGED = 10
_LOG = "bits: "

# Combinations of widths that are kept while they are chosen; more than these are thinned out.
_FRONT = 1 << 16


@dataclass(frozen=True)
class LearnedBits:
    """Options.

    Attributes:
        widths: bits to choose from, ascending.
        kind: of the cost: a name in `passes.cost.COSTS`, or "latency".
        share: that the cost may be of what the plan costs at the start.
        latencies: milliseconds by layer and bits, for "latency".
        learning_rate: positions among the widths that Adam moves in a step, at the start.
        error: weight of the error of rounding.
        regularization: weight of the mean of all bits.
    """

    widths: tuple[int, ...]
    kind: str
    share: float
    latencies: tuple[tuple[str, tuple[tuple[int, float], ...]], ...] = ()
    learning_rate: float = 0.02
    error: float = 0.0
    regularization: float = 0.0


@dataclass(frozen=True)
class Budget:
    """What may be spent on the layers whose bits are learned.

    Attributes:
        widths: by such a layer, the bits that runtimes have a kernel for.
        costs: by such a layer, of each width.
        limit: of their sum, in the cost's unit.
        rest: of the other layers.
        start: of all layers at the start.
    """

    widths: Mapping[str, tuple[int, ...]]
    costs: Mapping[str, tuple[float, ...]]
    limit: float
    rest: float
    start: float


def budget(graph: Graph, plan: Plan, options: LearnedBits) -> Budget:
    """The budget of a plan.

    Raises:
        BadInput: where no layer has a choice, or the least bits cost too much.
    """
    known = work(graph, plan)
    table = {layer: dict(entries) for layer, entries in options.latencies}

    def cost(layer: str, bits: int) -> float:
        if options.kind == "latency":
            return latency(table, layer, bits)
        return COSTS[options.kind](known[layer], bits)

    widths = allowed(graph, plan, options.widths)
    if not widths:
        raise BadInput(
            f"recipe: learn_bits: no layer has kernels for two of the widths {', '.join(map(str, options.widths))}; "
            "give other widths, or leave the pass out"
        )
    now = {name: cost(name, planned.bits) for name, planned in plan.weights.items() if not planned.is_float}
    costs = {name: tuple(cost(name, bits) for bits in of) for name, of in widths.items()}
    rest = sum(value for name, value in now.items() if name not in widths)
    start = sum(now.values())
    limit = options.share * start - rest
    least = sum(map(min, costs.values()))
    if least > limit:
        raise BadInput(
            f"recipe: learn_bits.budget.{options.kind}: is {options.share:g}, and the narrowest widths cost "
            f"{(least + rest) / start:.3f} of the plan's; give more, or narrower widths"
        )
    return Budget(widths, costs, limit, rest, start)


def allowed(graph: Graph, plan: Plan, widths: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """By layer that has a choice, the widths that runtimes have a kernel for."""
    tensors = graph.tensors()
    found = {}
    for op in graph.linear_ops():
        planned = plan.weights[op.name]
        if planned.affine is None:
            continue
        source = None if op.name in plan.floats else plan.activations[scale_source(tensors, op.input)].affine

        def asked(bits: int, planned: Any = planned) -> Request:
            return Request(bits, True, planned.granularity, planned.group_size, planned.decoded)

        fitting = tuple(bits for bits in widths if runnable(op, asked(bits), source)[0] == asked(bits))
        if len(fitting) > 1:
            found[op.name] = fitting
    return found


def nearest_widths(positions: Sequence[float], costs: Sequence[Sequence[float]], limit: float) -> list[int]:
    """The number of a width for each layer: the least sum of squared distances to `positions` whose cost is within the
    limit, by dynamic programming over the combinations that no other one beats.

    Args:
        positions: by layer, among its widths.
        costs: by layer, of each width.
        limit: of the sum; the cheapest widths are within it.
    """
    spent, far, chosen = np.zeros(1), np.zeros(1), np.zeros((1, 0), np.int8)
    cheapest = [min(of) for of in costs]
    for number, (position, of) in enumerate(zip(positions, costs, strict=True)):
        options = np.arange(len(of))
        spent = (spent[:, None] + np.asarray(of, np.float64)).reshape(-1)
        far = (far[:, None] + (options - position) ** 2).reshape(-1)
        picked = np.tile(options.astype(np.int8), len(chosen))[:, None]
        chosen = np.concatenate([np.repeat(chosen, len(of), axis=0), picked], axis=1)
        # Rounding of sums must not take away what fits exactly.
        kept = np.flatnonzero(spent + sum(cheapest[number + 1 :]) <= limit * (1 + 1e-12))
        order = kept[np.lexsort((far[kept], spent[kept]))]
        best_before = np.minimum.accumulate(np.concatenate([[np.inf], far[order][:-1]]))
        order = order[far[order] < best_before]
        if len(order) > _FRONT:
            order = order[np.unique(np.linspace(0, len(order) - 1, _FRONT).astype(int))]
        spent, far, chosen = spent[order], far[order], chosen[order]
    return [int(number) for number in chosen[np.argmin(far)]]


class LearningBits(Companion):
    """Losses and multiplier of a run in which bits are learned; takes whole widths at its end.

    Args:
        quantizers: by layer whose bits are learned: its kernel, its quantizer and the quantizer's variables.
        budget: of these layers.
        options: see `LearnedBits`.
        log: gets an entry every few steps, see `trajectory`.
    """

    def __init__(
        self,
        quantizers: Mapping[str, tuple[Any, FractionalWeights, Mapping[str, Any]]],
        budget: Budget,
        options: LearnedBits,
        log: dict[str, list[float]],
    ) -> None:
        super().__init__(log)
        self.quantizers, self.budget, self.options = quantizers, budget, options
        self.multiplier = tf.Variable(0.0, trainable=False, name="multiplier")
        self.steps = tf.Variable(0, trainable=False, name="steps_with_bits", dtype=tf.int64)
        self.state = (self.multiplier, self.steps)
        self._advance = tf.function(self._raised)

    def _interpolated(self, tables: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        """By layer, what a table of its widths gives at its position."""
        return {
            name: tf.reduce_sum(quantizer.shares(variables) * tf.constant(tables[name], tf.float32))
            for name, (_, quantizer, variables) in self.quantizers.items()
        }

    def _excess(self) -> Any:
        """Cost over the limit, less 1."""
        return tf.add_n(list(self._interpolated(self.budget.costs).values())) / self.budget.limit - 1.0

    def loss(self) -> Any:
        # Far below the limit the square would push the cost up: it stops where its gradient takes the multiplier off.
        excess = tf.maximum(self._excess(), -self.multiplier / _DAMPING)
        found = self.multiplier * excess + _DAMPING / 2.0 * tf.square(excess)
        if self.options.error:
            errors = [
                tf.nn.l2_loss(quantizer(kernel, True, variables) - kernel) / (tf.nn.l2_loss(kernel) + 1e-12)
                for kernel, quantizer, variables in self.quantizers.values()
            ]
            found += self.options.error * tf.add_n(errors)
        if self.options.regularization:
            bits = self._interpolated(self.budget.widths)
            found += self.options.regularization * tf.add_n(list(bits.values())) / len(bits)
        return found

    def _raised(self) -> dict[str, Any]:
        """Takes the multiplier a step on and gives an entry of the log."""
        excess = self._excess()
        self.multiplier.assign(tf.maximum(self.multiplier + _RISE * excess, 0.0))
        self.steps.assign_add(1)
        bits = self._interpolated(self.budget.widths)
        return {
            "step": self.steps.value(),
            "cost": ((1.0 + excess) * self.budget.limit + self.budget.rest) / self.budget.start,
            "multiplier": self.multiplier.value(),
            **{f"of {name}": value for name, value in bits.items()},
        }

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        entry = self._advance()
        if int(entry["step"]) % _LOGGED:
            return
        for name, value in entry.items():
            self.log.setdefault(_LOG + name, []).append(round(float(value), 4))

    def finish(self) -> None:
        positions = [float(quantizer.position(variables)) for _, quantizer, variables in self.quantizers.values()]
        costs = [self.budget.costs[name] for name in self.quantizers]
        numbers = nearest_widths(positions, costs, self.budget.limit)
        for number, (_, quantizer, variables) in zip(numbers, self.quantizers.values(), strict=True):
            variables["position"].assign(quantizer.placed(number))


def trajectory(history: Mapping[str, list[float]]) -> dict[str, Any]:
    """What a run logged: lists "step", "cost" (as a share of the plan's) and "multiplier", and "bits" by layer."""
    found = {name.removeprefix(_LOG): values for name, values in history.items() if name.startswith(_LOG)}
    bits = {name.removeprefix("of "): found.pop(name) for name in list(found) if name.startswith("of ")}
    return {**found, "bits": bits}


def without_trajectory(history: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Loss and metrics by epoch."""
    return {name: values for name, values in history.items() if not name.startswith(_LOG)}
