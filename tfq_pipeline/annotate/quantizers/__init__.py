"""TFMOT quantizers that start from a Plan, one technique a file. The tables name them as recipes do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfq_pipeline.annotate.quantizers.base import ActivationQuantizer, WeightQuantizer
from tfq_pipeline.annotate.quantizers.binary import BinaryWeights
from tfq_pipeline.annotate.quantizers.codebook import CodebookWeights
from tfq_pipeline.annotate.quantizers.fractional import FractionalWeights
from tfq_pipeline.annotate.quantizers.logarithmic import LogarithmicWeights
from tfq_pipeline.annotate.quantizers.lsq import LSQActivation, LSQWeights
from tfq_pipeline.annotate.quantizers.lsq_plus import LSQPlusActivation
from tfq_pipeline.annotate.quantizers.min_max import MinMaxWeights
from tfq_pipeline.annotate.quantizers.moving_average import MovingAverageActivation
from tfq_pipeline.annotate.quantizers.pact import PACTActivation
from tfq_pipeline.annotate.quantizers.seq import SEQWeights
from tfq_pipeline.annotate.quantizers.ternary import TernaryWeights
from tfq_pipeline.annotate.quantizers.ttq import TTQWeights
from tfq_pipeline.numerics.affine import Affine


@dataclass(frozen=True)
class Techniques:
    """How scales behave in training.

    Attributes:
        weights, activations: names in `WEIGHTS` and `ACTIVATIONS`.
        decay: for "pact": of the squares of the clipping levels, in the loss.
        momentum: for "moving_average": share of the old range that each step keeps; 1.0 freezes all.
        frozen: layers whose activation range never moves.
        widths: by layer whose bits are learned, those to choose from; its weights follow no other technique.
        pace: see `FractionalWeights`.
    """

    weights: str = "min_max"
    activations: str = "moving_average"
    momentum: float = 1.0
    decay: float = 0.0
    frozen: frozenset[str] = frozenset()
    widths: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    pace: float = 1.0


WEIGHTS: Mapping[str, type[WeightQuantizer]] = {
    "min_max": MinMaxWeights,
    "lsq": LSQWeights,
    "seq": SEQWeights,
    "logarithmic": LogarithmicWeights,
    "ternary": TernaryWeights,
    "ttq": TTQWeights,
    "binary": BinaryWeights,
    "codebook": CodebookWeights,
}

# The most bits of weights that some are for; wider ones beside them follow min-max.
MOST_BITS: Mapping[str, int] = {"seq": 3, "ternary": 2, "ttq": 2, "binary": 2, "codebook": 4}


def weight_quantizer(layer: str, bits: int, kernel: np.ndarray, start: np.ndarray, how: Techniques) -> WeightQuantizer:
    """The quantizer of a layer's weights that starts as a plan has them.

    Args:
        layer: its name.
        bits: the plan's.
        kernel: in the shape that it is seen in.
        start: the plan's scales, of a shape that broadcasts over it.
        how: what the scales do in training.
    """
    if layer in how.widths:
        return FractionalWeights.between(how.widths[layer], bits, kernel, start, how.pace)
    fitting = bits <= MOST_BITS.get(how.weights, bits)
    return (WEIGHTS[how.weights] if fitting else MinMaxWeights).starting(bits, kernel, start)


def _moving_average(start: Affine, momentum: float) -> ActivationQuantizer:
    return MovingAverageActivation(*_parameters(start), momentum=momentum)


ACTIVATIONS: Mapping[str, Callable[[Affine, Techniques], ActivationQuantizer]] = {
    "moving_average": lambda start, how: _moving_average(start, how.momentum),
    "lsq": lambda start, how: LSQActivation(*_parameters(start)),
    # Symmetric ones have no offset to learn.
    "lsq_plus": lambda start, how: (LSQActivation if start.symmetric else LSQPlusActivation)(*_parameters(start)),
    "pact": lambda start, how: PACTActivation(*_parameters(start), decay=how.decay),
}


def activation_quantizer(layer: str, start: Affine, how: Techniques) -> ActivationQuantizer:
    """The quantizer of what a layer writes."""
    return _moving_average(start, 1.0) if layer in how.frozen else ACTIVATIONS[how.activations](start, how)


def quantizer_config(quantizer: WeightQuantizer | ActivationQuantizer | None) -> dict[str, Any] | None:
    """A quantizer as plain data, for files of Keras in any of its formats."""
    return None if quantizer is None else {"kind": type(quantizer).__name__, "config": quantizer.get_config()}


def quantizer_of(config: Mapping[str, Any] | None) -> Any:
    """The quantizer that `quantizer_config` described."""
    return None if config is None else _KINDS[config["kind"]](**config["config"])


def _parameters(start: Affine) -> tuple[int, float, int, bool]:
    return start.bits, float(start.scale[0]), int(start.zero_point[0]), start.symmetric


_KINDS: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        *WEIGHTS.values(),
        FractionalWeights,
        MovingAverageActivation,
        LSQActivation,
        LSQPlusActivation,
        PACTActivation,
    )
}

__all__ = [
    "ACTIVATIONS",
    "WEIGHTS",
    "ActivationQuantizer",
    "FractionalWeights",
    "Techniques",
    "WeightQuantizer",
    "activation_quantizer",
    "quantizer_config",
    "quantizer_of",
    "weight_quantizer",
]
