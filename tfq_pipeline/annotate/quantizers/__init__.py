"""TFMOT quantizers that start from a Plan, one technique a file. The tables name them as recipes do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tfq_pipeline.annotate.quantizers.base import ActivationQuantizer, WeightQuantizer
from tfq_pipeline.annotate.quantizers.min_max import MinMaxWeights
from tfq_pipeline.annotate.quantizers.moving_average import MovingAverageActivation
from tfq_pipeline.numerics.affine import Affine


@dataclass(frozen=True)
class Techniques:
    """How scales behave in training.

    Attributes:
        weights, activations: names in `WEIGHTS` and `ACTIVATIONS`.
        momentum: for "moving_average": share of the old range that each step keeps; 1.0 freezes all.
        frozen: layers whose activation range never moves.
    """

    weights: str = "min_max"
    activations: str = "moving_average"
    momentum: float = 1.0
    frozen: frozenset[str] = frozenset()


WEIGHTS: Mapping[str, type[WeightQuantizer]] = {"min_max": MinMaxWeights}


def _moving_average(start: Affine, momentum: float) -> ActivationQuantizer:
    return MovingAverageActivation(*_parameters(start), momentum=momentum)


ACTIVATIONS: Mapping[str, Callable[[Affine, Techniques], ActivationQuantizer]] = {
    "moving_average": lambda start, how: _moving_average(start, how.momentum),
}


def activation_quantizer(layer: str, start: Affine, how: Techniques) -> ActivationQuantizer:
    """The quantizer of what a layer writes."""
    return _moving_average(start, 1.0) if layer in how.frozen else ACTIVATIONS[how.activations](start, how)


def _parameters(start: Affine) -> tuple[int, float, int, bool]:
    return start.bits, float(start.scale[0]), int(start.zero_point[0]), start.symmetric


__all__ = ["ACTIVATIONS", "WEIGHTS", "ActivationQuantizer", "Techniques", "WeightQuantizer", "activation_quantizer"]
