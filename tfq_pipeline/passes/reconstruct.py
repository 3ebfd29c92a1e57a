"""Layer-wise reconstruction: chooses the integers of each layer so that what it computes stays what it was.

Layers are taken in the order of execution. Each sees its inputs as the layers before it, already quantized, give them,
and is asked for what the float model gives: its errors are made up for, not piled up (Nagel 2020, section 3.3). What
the mean of its output loses goes into the bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from tfq_pipeline.data import Data
from tfq_pipeline.graph.protocol import Graph, LinearOp, Weights
from tfq_pipeline.passes.moments import Moments, moments
from tfq_pipeline.passes.patches import WITH_PATCHES, kernel_of, weight_rows
from tfq_pipeline.plan import Plan, TensorPlan


class Technique(Protocol):
    """Chooses the integers of a layer."""

    def __call__(
        self, target: np.ndarray, scale: np.ndarray, a: np.ndarray, low: np.ndarray, high: np.ndarray, start: np.ndarray
    ) -> np.ndarray:
        """Integers q with small (scale q - target) a (scale q - target)'.

        Args:
            target: real weights, float64 [groups, outputs, values].
            scale: float64, the shape of the target.
            a: second moments of the input, float64 [groups, values, values], positive definite.
            low, high: the integers allowed for each weight, the shape of the target.
            start: the plan's integers so far, [groups, outputs, values].

        Returns:
            int8 [groups, outputs, values].
        """
        ...


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What came of it.

    Attributes:
        graph: the reference with corrected biases.
        plan: with the integers chosen.
        errors: by layer, mean squared error of the output over the mean square of what it should be, with the
            integers it had before and with those chosen.
    """

    graph: Graph
    plan: Plan
    errors: Mapping[str, tuple[float, float]]


def reconstruct(
    reference: Graph,
    plan: Plan,
    data: Data,
    technique: Technique | None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Reconstruction:
    """Chooses the integers and corrects the bias of every quantized layer that patches can be made for.

    Args:
        reference: folded, with the weights that the plan was made for and biases that nothing corrected yet.
        plan: with scales for the weights.
        data: samples.
        technique: chooses integers; None keeps the plan's, and only biases are corrected.
        seed: of the choice of patches.
        progress: told the layers done and the total.
    """
    rng = np.random.default_rng(seed)
    ops = [op for op in reference.linear_ops() if not plan.weights[op.name].is_float]
    after = reference
    chosen: dict[str, TensorPlan] = {}
    biases: dict[str, Weights] = {}
    errors: dict[str, tuple[float, float]] = {}
    for done, op in enumerate(ops, 1):
        planned, bias = plan.weights[op.name], op.bias
        if op.op in WITH_PATCHES:
            found = moments([op], reference, after, data, rng)[op.name]
            target = found.target(op)
            before = _error(op, planned, found, target)
            if technique is not None:
                planned = chosen[op.name] = replace(planned, values=_integers(op, planned, found, target, technique))
            errors[op.name] = (before, _error(op, planned, found, target))
            bias = corrected_bias(op, planned.represented(op.kernel), found)
            biases[op.name] = Weights(op.kernel, bias)
        after = after.with_weights({op.name: Weights(planned.represented(op.kernel), bias)})
        progress(done, len(ops))
    return Reconstruction(reference.with_weights(biases), plan.with_weights(chosen), errors)


def corrected_bias(op: LinearOp, kernel: np.ndarray, found: Moments) -> np.ndarray:
    """The bias with which the mean of every output channel is the float model's (Nagel 2019, section 4.2).

    Args:
        op: with float weights and bias.
        kernel: the weights that take their place, TFLite layout.
        found: moments of its input.

    Returns:
        float32 [channels].
    """
    wanted = weight_rows(op, op.kernel, found.channels) @ found.mean_x[:, :, None]
    given = weight_rows(op, kernel, found.channels) @ found.mean_y[:, :, None]
    bias = np.zeros(op.channels) if op.bias is None else op.bias.astype(np.float64)
    return (bias + (wanted - given).ravel()).astype(np.float32)


def _integers(
    op: LinearOp, planned: TensorPlan, found: Moments, target: np.ndarray, technique: Technique
) -> np.ndarray:
    scale, zero = (weight_rows(op, of, found.channels).astype(np.float64) for of in planned.grid(op.kernel.shape))
    start = weight_rows(op, planned.integers(op.kernel), found.channels)
    low, high = (weight_rows(op, of, found.channels) for of in planned.limits(op.kernel.shape))
    return kernel_of(op, technique(target - zero, scale, found.damped(), low, high, start))


def _error(op: LinearOp, planned: TensorPlan, found: Moments, target: np.ndarray) -> float:
    """Mean squared error of the output without its bias, over the mean square of the float output."""
    w = weight_rows(op, op.kernel, found.channels).astype(np.float64)
    difference = weight_rows(op, planned.represented(op.kernel), found.channels) - target
    # E[x x'] is not kept: with y in its place the measure stays a ratio of like things.
    power = np.einsum("gok,gkl,gol->", w, found.a, w, optimize=True)
    return float(np.einsum("gok,gkl,gol->", difference, found.a, difference, optimize=True) / max(power, 1e-30))
