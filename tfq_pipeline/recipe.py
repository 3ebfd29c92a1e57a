"""Recipes: a list of passes in order, each with its options, from YAML or JSON.

The pydantic models below are the schema; `json_schema` publishes them. Whatever is wrong with a file is reported by
file, line and key, with what is allowed.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tfq_pipeline import aeq_recipe
from tfq_pipeline.errors import BadInput

Key = str | int

Position = Literal["first", "last"]

# How the range of weights is found; the names are those of calibration methods.
WeightRange = Literal["minmax", "percentile", "entropy", "mse"]


Granularity = Literal["tensor", "channel", "group"]
GroupSize = Annotated[int, Field(ge=16, le=256, multiple_of=16, description="input channels with one scale")]

# When activations become integers: at ranges that calibration found, at those of each input while the layer runs
# ("dynamic range"), or never, so that weights are decoded ("weight only").
Mode = Literal["static", "dynamic", "float"]


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Pass(_Options):
    """A pass and its options.

    Attributes:
        kind: its name in recipes.
        after: passes that have to come before it.
        needs: the data it reads, "calibration" or "train"; None for a pass that reads none.
    """

    kind: ClassVar[str]
    after: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[str | None] = None

    def follows(self) -> tuple[str, ...]:
        """Passes that have to come before it with these options."""
        return self.after


Share = Annotated[float, Field(gt=0, le=4)]


class WeightSpec(_Options):
    """How weights are quantized; those that are read as integers beside calibrated activations are symmetric
    whatever is asked."""

    bits: Annotated[int, Field(ge=2, le=8)] = 8
    symmetric: Annotated[bool, Field(description="zero points 0")] = True
    granularity: Granularity = "channel"
    group_size: GroupSize | None = None
    range: WeightRange = "minmax"

    @model_validator(mode="after")
    def _groups_have_a_size(self) -> WeightSpec:
        if (self.granularity == "group") != (self.group_size is not None):
            raise ValueError("granularity group and group_size belong together; give both or none")
        return self


# Fewer than 8 bits are for activations with calibrated ranges; files hold them in int8.
ActivationBits = Literal[2, 3, 4, 5, 6, 7, 8, 16]


class ActivationSpec(_Options):
    """How activations are quantized."""

    bits: ActivationBits = 8
    symmetric: bool = False
    mode: Mode = "static"


class WeightOverride(_Options):
    """The keys of `WeightSpec` that a rule changes; those left out stay as they were."""

    bits: Annotated[int, Field(ge=2, le=8)] | None = None
    symmetric: bool | None = None
    granularity: Granularity | None = None
    group_size: GroupSize | None = None
    range: WeightRange | None = None


class ActivationOverride(_Options):
    """The keys of `ActivationSpec` that a rule changes."""

    bits: ActivationBits | None = None
    symmetric: bool | None = None
    mode: Mode | None = None


@dataclass(frozen=True)
class Layer:
    """What rules know of a layer.

    Attributes:
        name: its name.
        type: its Keras class.
        op: its TFLite operator, None for a layer without weights.
        positions: "first" and "last" where it is that among the layers with weights.
        elements: of its weights, None where it has none or they are not known.
    """

    name: str
    type: str
    op: str | None = None
    positions: frozenset[Position] = frozenset()
    elements: int | None = None


class Match(_Options):
    """Which layers a rule is for; all that is given must hold."""

    name: Annotated[str, Field(min_length=1, description="shell pattern of layer names")] | None = None
    type: Annotated[str, Field(min_length=1, description="Keras class, such as DepthwiseConv2D")] | None = None
    op: Annotated[str, Field(pattern="^[A-Z][A-Z0-9_]*$", description="TFLite operator, such as CONV_2D")] | None = None
    position: Annotated[Position | None, Field(description="of the layers with weights, the first or the last")] = None
    smaller_than: Annotated[int, Field(ge=1, description="layers whose weights are fewer")] | None = None

    @model_validator(mode="after")
    def _something(self) -> Match:
        if not self.model_dump(exclude_none=True):
            raise ValueError("matches nothing; give name, type, op, position or smaller_than")
        return self

    def covers(self, layer: Layer) -> bool:
        """Whether this layer is meant."""
        return (
            (self.name is None or fnmatchcase(layer.name, self.name))
            and (self.type is None or self.type == layer.type)
            and (self.op is None or self.op == layer.op)
            and (self.position is None or self.position in layer.positions)
            and (self.smaller_than is None or (layer.elements is not None and layer.elements < self.smaller_than))
        )


class Rule(_Options):
    """What is different for some layers."""

    match: Match
    weights: WeightOverride | None = None
    activations: ActivationOverride | None = None
    skip: Annotated[bool, Field(description="leave the layer float")] = False

    @model_validator(mode="after")
    def _one_thing(self) -> Rule:
        if self.skip and (self.weights or self.activations):
            raise ValueError("says skip and how to quantize; keep one of them")
        if not (self.skip or self.weights or self.activations):
            raise ValueError("changes nothing; give weights, activations or 'skip: true'")
        return self


class Synthesize(_Pass):
    """Makes the data that later passes calibrate with: from what batch norm remembers of the training data (Cai 2020)
    and the classes that a classifier tells apart (Yin 2020), or noise where there is no batch norm, as in a .tflite."""

    kind: ClassVar[str] = "synthesize"
    samples: Annotated[int, Field(ge=1)] = 128
    source: Annotated[Literal["batch_norm", "noise"], Field(description="noise knows nothing of the data")] = (
        "batch_norm"
    )
    steps: Annotated[int, Field(ge=1, description="of Adam, for each 64 samples")] = 200
    classes: Annotated[float, Field(ge=0, description="weight of the cross entropy beside the statistics")] = 0.1
    low: Annotated[float | None, Field(description="least value of the inputs, where it is known")] = None
    high: Annotated[float | None, Field(description="largest value of the inputs")] = None

    @model_validator(mode="after")
    def _both_limits(self) -> Synthesize:
        if (self.low is None) != (self.high is None) or (self.limits is not None and self.limits[0] >= self.limits[1]):
            raise ValueError("low and high belong together, low below high; give both or none")
        return self

    @property
    def limits(self) -> tuple[float, float] | None:
        """What input values lie between, None where it is not known."""
        return None if self.low is None or self.high is None else (self.low, self.high)


class FoldBatchNorm(_Pass):
    """Folds batch norm into the layer before it (Jacob et al. 2018, section 3.2)."""

    kind: ClassVar[str] = "fold_batch_norm"


class CrossLayerEqualization(_Pass):
    """Gives the channels between two layers like ranges (Nagel 2019, section 4.1)."""

    kind: ClassVar[str] = "cross_layer_equalization"
    after: ClassVar[tuple[str, ...]] = ("fold_batch_norm",)
    needs: ClassVar[str | None] = "calibration"
    samples: Annotated[int, Field(ge=1, description="to find the largest activations with")] = 128


class SmoothQuant(_Pass):
    """Moves the outliers of activations into weights (Xiao 2023)."""

    kind: ClassVar[str] = "smooth_quant"
    after: ClassVar[tuple[str, ...]] = ("fold_batch_norm",)
    needs: ClassVar[str | None] = "calibration"
    alpha: Annotated[float, Field(ge=0, le=1, description="share of the difficulty that goes into weights")] = 0.5
    samples: Annotated[int, Field(ge=1)] = 128


class Awq(_Pass):
    """Gives channels with large activations larger weights, as far as rounding gains by it (Lin 2024)."""

    kind: ClassVar[str] = "awq"
    after: ClassVar[tuple[str, ...]] = ("fold_batch_norm",)
    needs: ClassVar[str | None] = "calibration"
    weights: Annotated[WeightSpec, Field(description="how they will be quantized")] = WeightSpec(bits=4)
    grid: Annotated[int, Field(ge=1, description="exponents tried are 0, 1 / grid, ..., 1")] = 20
    samples: Annotated[int, Field(ge=1)] = 128


class HighBiasAbsorption(_Pass):
    """Moves what a ReLU never clips from a layer's bias into the next one's (Nagel 2019, section 4.1.3)."""

    kind: ClassVar[str] = "high_bias_absorption"
    after: ClassVar[tuple[str, ...]] = ("fold_batch_norm",)
    samples: Annotated[int, Field(ge=1, description="for layers without batch norm, where there is data")] = 128


class _SidePaths(_Pass):
    after: ClassVar[tuple[str, ...]] = ("fold_batch_norm",)
    bits: Annotated[int, Field(ge=2, le=8, description="of the side path's weights, at least")] = 8
    share: Annotated[float, Field(gt=0, le=1, description="of a layer's input channels, at most")] = 0.05


class OutlierChannels(_SidePaths):
    """Computes outlier channels of a layer's input beside it, with more bits (Dettmers 2022)."""

    kind: ClassVar[str] = "outlier_channels"
    needs: ClassVar[str | None] = "calibration"
    ratio: Annotated[float, Field(ge=1, description="of a channel's largest magnitude to the median one's")] = 6.0
    samples: Annotated[int, Field(ge=1)] = 128


class DenseAndSparse(_SidePaths):
    """Clips weights to a tight range and computes what that takes off them beside it, with more bits (Kim 2023)."""

    kind: ClassVar[str] = "dense_and_sparse"
    percentile: Annotated[float, Field(gt=50, lt=100, description="weights above it are outliers")] = 99.0
    gain: Annotated[float, Field(gt=0, le=1, description="share that squared ranges have to fall to")] = 0.7


class _Zeros(_Options):
    """Which weights become 0."""

    pattern: Annotated[
        Literal["magnitude", "2:4", "block"],
        Field(description="any weights, two of every four neighbouring input channels, or blocks of input channels"),
    ] = "magnitude"
    sparsity: Annotated[float, Field(gt=0, lt=1, description="share of the weights that go")] = 0.5
    scope: Annotated[
        Literal["layer", "model"],
        Field(description="what the share is of; of the model, layers that bear it lose more"),
    ] = "layer"
    block: Annotated[int, Field(ge=2, description="input channels of a block; 16 by default")] | None = None
    skip: Annotated[tuple[Match, ...], Field(strict=False, description="layers that keep all their weights")] = (
        Match(position="first"),
        Match(position="last"),
    )

    @model_validator(mode="after")
    def _block_is_used(self) -> Self:
        if self.block is not None and self.pattern != "block":
            raise ValueError(f"block belongs to pattern block, not to {self.pattern}; leave it out")
        return self


class Prune(_Pass, _Zeros):
    """Sets weights to 0 that stay it to the end (Han 2015; Mishra 2021; Lee 2021)."""

    kind: ClassVar[str] = "prune"
    after: ClassVar[tuple[str, ...]] = ("fold_batch_norm",)

    @model_validator(mode="after")
    def _half_of_every_layer(self) -> Prune:
        if self.pattern == "2:4" and (self.sparsity, self.scope) != (0.5, "layer"):
            raise ValueError("pattern 2:4 takes half of every layer; leave sparsity and scope out")
        return self


class Sparsify(_Zeros):
    """Weights become 0 while they train, more and more (Zhu and Gupta 2017)."""

    start: Annotated[float, Field(ge=0, lt=1, description="share at the first step")] = 0.0
    end: Annotated[float, Field(gt=0, le=1, description="share of the training after which it rises no more")] = 0.75
    every: Annotated[int, Field(ge=1, description="steps between two choices of the weights that go")] = 20

    @model_validator(mode="after")
    def _rises(self) -> Sparsify:
        if self.pattern == "2:4":
            raise ValueError("pattern 2:4 has one share, a half, which cannot rise; take magnitude or block, or prune")
        if self.start > self.sparsity:
            raise ValueError(f"start is {self.start:g}, more than sparsity, {self.sparsity:g}; the share rises")
        return self


class Calibrate(_Pass):
    """Finds the ranges of activations on data."""

    kind: ClassVar[str] = "calibrate"
    needs: ClassVar[str | None] = "calibration"
    method: Literal["minmax", "moving_average", "percentile", "entropy", "mse"] = "minmax"
    samples: Annotated[int, Field(ge=1)] = 512
    decay: Annotated[float, Field(gt=0, lt=1, description="share of the old range in moving_average")] | None = None
    percentile: Annotated[float, Field(gt=50, le=100, description="values inside the range")] | None = None
    bits: Annotated[int, Field(ge=2, le=16, description="that the range is for, in mse; 8 by default")] | None = None

    # The method that each option belongs to.
    belongs: ClassVar[Mapping[str, str]] = {"decay": "moving_average", "percentile": "percentile", "bits": "mse"}

    @model_validator(mode="after")
    def _options_are_used(self) -> Calibrate:
        for option, method in self.belongs.items():
            if getattr(self, option) is not None and self.method != method:
                raise ValueError(f"{option} belongs to method {method}, not to {self.method}; leave it out")
        return self

    @property
    def options(self) -> dict[str, object]:
        """Keyword arguments of the method's observer."""
        return {name: value for name in self.belongs if (value := getattr(self, name)) is not None}


class Quantize(_Pass):
    """Decides bits, scales and zero points of every tensor."""

    kind: ClassVar[str] = "quantize"
    after: ClassVar[tuple[str, ...]] = ("calibrate",)
    weights: WeightSpec = WeightSpec()
    activations: ActivationSpec = ActivationSpec()
    rules: Annotated[tuple[Rule, ...], Field(strict=False, description="later rules win")] = ()

    def follows(self) -> tuple[str, ...]:
        """Static activations need ranges."""
        modes = [self.activations.mode, *(r.activations.mode for r in self.rules if r.activations is not None)]
        return self.after if "static" in modes else ()


class _Reconstruction(_Pass):
    after: ClassVar[tuple[str, ...]] = ("quantize",)
    needs: ClassVar[str | None] = "calibration"
    samples: Annotated[int, Field(ge=1)] = 512


class BiasCorrection(_Reconstruction):
    """Puts what quantized weights lose of each channel's mean into the bias (Nagel 2019, section 4.2)."""

    kind: ClassVar[str] = "bias_correction"


class AnalyticBiasCorrection(_Pass):
    """The same without data, from batch norm's statistics (Nagel 2019, section 4.2.1)."""

    kind: ClassVar[str] = "analytic_bias_correction"
    after: ClassVar[tuple[str, ...]] = ("quantize",)
    samples: Annotated[int, Field(ge=1, description="where batch norm says nothing and there is data")] = 128


class Gptq(_Reconstruction):
    """Chooses integers so that later inputs make up for the error of earlier ones (Frantar 2023)."""

    kind: ClassVar[str] = "gptq"


class QuantEase(_Reconstruction):
    """Improves the integers one input at a time until nothing changes (Behdad 2023)."""

    kind: ClassVar[str] = "quantease"
    sweeps: Annotated[int, Field(ge=1)] = 20


class AdaRound(_Reconstruction):
    """Learns to round each weight down or up (Nagel 2020)."""

    kind: ClassVar[str] = "adaround"
    steps: Annotated[int, Field(ge=1)] = 2000


class Brecq(_Reconstruction):
    """Learns to round all weights of a block together (Li 2021)."""

    kind: ClassVar[str] = "brecq"
    steps: Annotated[int, Field(ge=1, description="for each block")] = 1000


class BiasTuning(_Reconstruction):
    """Learns the biases of a block with its integers kept."""

    kind: ClassVar[str] = "bias_tuning"
    steps: Annotated[int, Field(ge=1, description="for each block, at most")] = 2000


# Passes that `accuracy_aware` tries one after the other.
Try = Annotated[
    tuple[Literal["bias_correction", "gptq", "quantease", "adaround", "brecq", "bias_tuning"], ...],
    Field(strict=False, min_length=1),
]


class AccuracyAware(_Pass):
    """Tries passes, keeps what is best on held-out data, and gives layers back to 8 bits until it is good enough."""

    kind: ClassVar[str] = "accuracy_aware"
    after: ClassVar[tuple[str, ...]] = ("quantize",)
    needs: ClassVar[str | None] = "calibration"
    tries: Annotated[
        tuple[Try, ...],
        Field(strict=False, min_length=1, description="lists of passes, the most promising first"),
    ] = (("gptq",), ("gptq", "quantease"), ("bias_correction",), ("adaround",))
    target_drop: Annotated[float, Field(ge=0, description="points that may be lost")] = 1.0
    samples: Annotated[int, Field(ge=1, description="to measure on, from the training data")] = 2000
    seconds: Annotated[float, Field(gt=0, description="for the tries; the first one is always finished")] = 120.0


class Distil(_Options):
    """What the float model teaches its quantized self (Hinton 2015, Romero 2015)."""

    weight: Annotated[float, Field(ge=0, le=1, description="share of the teacher's logits; labels have the rest")] = 0.5
    temperature: Annotated[float, Field(gt=0, description="that logits are divided by")] = 4.0
    features: Annotated[tuple[str, ...], Field(strict=False, description="layers to be like the teacher's")] = ()
    feature_weight: Annotated[float, Field(ge=0, description="of each, relative to the teacher's variance")] = 1.0


class _Training(_Pass):
    after: ClassVar[tuple[str, ...]] = ("quantize",)
    needs: ClassVar[str | None] = "train"
    epochs: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 64
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    optimizer: Literal["adam", "sgd"] = "adam"
    momentum: Annotated[float, Field(ge=0, lt=1, description="share of an activation range kept at each step")] = 0.99
    samples: Annotated[int, Field(ge=1, description="at most so many samples an epoch")] | None = None
    activations: Literal["moving_average", "lsq", "lsq_plus", "pact"] = "moving_average"
    decay: Annotated[float, Field(ge=0, description="of the squares of pact's clipping levels")] = 0.0

    distil: Distil | None = None

    @model_validator(mode="after")
    def _decay_is_used(self) -> _Training:
        if self.decay and self.activations != "pact":
            raise ValueError(f"decay belongs to activations pact, not to {self.activations}; leave it out")
        return self


class Oscillations(_Options):
    """What is done about weights that jump between two integers (Nagel 2022)."""

    damping: Annotated[float, Field(ge=0, description="weight of the distance to the grid in the loss, at the end")] = (
        0.0
    )
    freeze: (
        Annotated[float, Field(gt=0, lt=1, description="share of steps that turn back above which a weight is held")]
        | None
    ) = None
    freeze_start: Annotated[float, Field(gt=0, lt=1, description="the same at the start")] | None = None
    rate: Annotated[float, Field(gt=0, lt=1, description="of the newest step in what is counted")] = 0.01

    @model_validator(mode="after")
    def _something(self) -> Oscillations:
        if self.freeze is None and not self.damping:
            raise ValueError("does nothing; give damping or freeze")
        if self.freeze_start is not None and (self.freeze is None or self.freeze_start < self.freeze):
            raise ValueError("freeze_start is where the threshold falls from; give freeze, and no less than it")
        return self


class Stage(_Options):
    """A training with more bits than planned."""

    bits: Annotated[int, Field(ge=3, le=8, description="of weights that are planned with fewer")]
    epochs: Annotated[int, Field(ge=1)] = 1


class Qat(_Training):
    """Quantization-aware training of what `quantize` decided, on labelled data."""

    kind: ClassVar[str] = "qat"
    weights: Annotated[
        Literal["min_max", "lsq", "seq", "logarithmic", "ternary", "ttq", "binary", "codebook"],
        Field(
            description="how scales are found; ternary, ttq and binary are for weights of 2 bits, seq of up to 3, "
            "codebook of up to 4, wider ones follow min_max"
        ),
    ] = "min_max"
    oscillations: Oscillations | None = None
    sparsify: Sparsify | None = None
    progressive: Annotated[
        tuple[Stage, ...], Field(strict=False, description="trainings with more bits first (Zhuang 2018), bits falling")
    ] = ()

    @model_validator(mode="after")
    def _bits_fall(self) -> Qat:
        bits = [stage.bits for stage in self.progressive]
        if bits != sorted(set(bits), reverse=True):
            raise ValueError(
                f"bits of progressive do not fall, they are {bits}; write as in [{{bits: 8}}, {{bits: 6}}]"
            )
        return self

    @model_validator(mode="after")
    def _one_training_sparsifies(self) -> Qat:
        if self.sparsify is not None and self.progressive:
            raise ValueError("sparsify is for one training, progressive makes several; leave one of them out")
        return self

    @model_validator(mode="after")
    def _oscillations_are_seen(self) -> Qat:
        if self.oscillations is not None and self.weights not in ("min_max", "lsq"):
            raise ValueError(f"oscillations belongs to weights min_max or lsq, not to {self.weights}; leave it out")
        return self


class Budget(_Options):
    """What weights of learned bits may cost, as a share of what the plan before costs: one of these."""

    bits: Share | None = None
    size: Annotated[Share | None, Field(description="bytes in the file, which holds 2 and 3 bits as 4")] = None
    operations: Annotated[Share | None, Field(description="multiplications x bits x bits")] = None
    energy: Annotated[Share | None, Field(description="modelled: arithmetic and reading the weights once")] = None
    latency: Annotated[Share | None, Field(description="after latency_table")] = None

    @model_validator(mode="after")
    def _one(self) -> Budget:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError(f"wants one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def cost(self) -> tuple[str, float]:
        """The cost's name and the share."""
        ((name, share),) = self.model_dump(exclude_none=True).items()
        return name, share


class LearnBits(_Training):
    """Learns the bits of each layer's weights by gradient, under a budget (Yang 2021)."""

    kind: ClassVar[str] = "learn_bits"
    budget: Budget
    widths: Annotated[
        tuple[Annotated[int, Field(ge=2, le=8)], ...],
        Field(strict=False, min_length=2, description="bits to choose from, ascending"),
    ] = (2, 3, 4, 8)
    bits_learning_rate: Annotated[float, Field(gt=0, le=1, description="of widths passed in a step")] = 0.02
    error: Annotated[float, Field(ge=0, description="weight of the error of rounding in the loss")] = 0.0
    regularization: Annotated[float, Field(ge=0, description="weight of the mean bits in the loss")] = 0.0
    latency_table: Annotated[
        str | None, Field(description='JSON file of milliseconds by layer and bits: {"conv": {"4": 0.11, "8": 0.09}}')
    ] = None

    @model_validator(mode="after")
    def _table_is_used(self) -> LearnBits:
        if list(self.widths) != sorted(set(self.widths)):
            raise ValueError("widths are not ascending; write them as [2, 3, 4, 8]")
        if (self.budget.latency is None) != (self.latency_table is None):
            raise ValueError("budget latency and latency_table belong together; give both or none")
        return self


class Convert(_Pass):
    """Writes the .tflite and verifies it."""

    kind: ClassVar[str] = "convert"
    after: ClassVar[tuple[str, ...]] = ("quantize",)
    inputs: Literal["int8", "int16", "float32"] = "int8"
    outputs: Literal["int8", "int16", "float32"] = "int8"


PassConfig = (
    Synthesize
    | FoldBatchNorm
    | CrossLayerEqualization
    | SmoothQuant
    | Awq
    | HighBiasAbsorption
    | OutlierChannels
    | DenseAndSparse
    | Prune
    | Calibrate
    | Quantize
    | BiasCorrection
    | AnalyticBiasCorrection
    | Gptq
    | QuantEase
    | AdaRound
    | Brecq
    | BiasTuning
    | AccuracyAware
    | LearnBits
    | Qat
    | Convert
)
# Passes that give weights of the float model other sizes.
_CHANGE_WEIGHTS = (CrossLayerEqualization, SmoothQuant, Awq, HighBiasAbsorption, _SidePaths, Prune)

PASSES: Mapping[str, type[PassConfig]] = {p.kind: p for p in get_args(PassConfig)}


class Recipe(_Options):
    """A checked recipe.

    Attributes:
        name: of the built-in recipe, or the file's stem.
        description: one line, may be empty.
        passes: in the order in which they run.
    """

    name: str
    description: str = ""
    passes: tuple[PassConfig, ...]

    def with_target_drop(self, points: float) -> Recipe:
        """The recipe with another limit for what its accuracy_aware pass may lose.

        Raises:
            BadInput: for a recipe without that pass, or a limit below 0.
        """
        if not any(isinstance(config, AccuracyAware) for config in self.passes):
            raise BadInput(
                f"--target-drop={points}: recipe {self.name} has no pass 'accuracy_aware'; use best_wi4_ai8, or add it"
            )
        if not points >= 0.0:
            raise BadInput(f"--target-drop={points}: below 0; give the points that may be lost, such as 1.0")
        changed = tuple(
            config.model_copy(update={"target_drop": points}) if isinstance(config, AccuracyAware) else config
            for config in self.passes
        )
        return self.model_copy(update={"passes": changed})

    def needs(self) -> dict[str, str]:
        """Data that the passes read, "calibration" or "train": the name of a pass that does, by name of the data."""
        made = False
        found = {}
        for config in self.passes:
            made = made or isinstance(config, Synthesize)
            if config.needs is not None and not (made and config.needs == "calibration"):
                found[config.needs] = config.kind
        return found


def spec_for(config: Quantize, layer: Layer) -> tuple[WeightSpec | None, ActivationSpec | None]:
    """What the pass asks of one layer: rules apply in order, later ones win.

    Args:
        config: the pass.
        layer: the layer.

    Returns:
        Specs of weights and of the output; (None, None) for a layer that stays float.
    """
    weights, activations, skipped = config.weights, config.activations, False
    for rule in config.rules:
        if not rule.match.covers(layer):
            continue
        skipped = rule.skip
        if rule.weights is not None:
            changes = rule.weights.model_dump(exclude_none=True)
            if changes.get("granularity", "group") != "group":
                changes["group_size"] = None
            weights = weights.model_copy(update=changes)
        if rule.activations is not None:
            activations = activations.model_copy(update=rule.activations.model_dump(exclude_none=True))
    return (None, None) if skipped else (weights, activations)


def builtin() -> list[str]:
    """Names of the built-in recipes."""
    folder = resources.files("tfq_pipeline") / "recipes"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def text(name: str) -> str:
    """The YAML of a built-in recipe.

    Raises:
        BadInput: there is none of this name.
    """
    if name not in builtin():
        raise BadInput(f"recipe '{name}': no built-in recipe; {_suggestion(name, builtin(), 'there are')}")
    return (resources.files("tfq_pipeline") / "recipes" / f"{name}.yaml").read_text("utf-8")


def load(name_or_path: str | os.PathLike[str]) -> Recipe:
    """Reads and checks a recipe.

    Args:
        name_or_path: name of a built-in recipe, or path of a .yaml or .json file; an ai-edge-quantizer recipe, which is
            a JSON list, is taken too.

    Raises:
        BadInput: naming file, line and key.
    """
    given = os.fspath(name_or_path)
    if given in builtin():
        return parse(text(given), f"{given}.yaml", given)
    path = Path(given)
    try:
        content = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{given}: not a text file; give a recipe in YAML or JSON") from error
    except OSError as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise BadInput(
            f"recipe '{given}': {found}, and no built-in recipe; {_suggestion(given, builtin(), 'built in are')}"
        ) from error
    return parse(content, given, path.stem)


def parse(content: str, source: str, name: str) -> Recipe:
    """Checks the text of a recipe.

    Args:
        content: YAML or JSON.
        source: stands in messages.
        name: of the recipe.

    Raises:
        BadInput: naming source, line and key.
    """
    document = _Document(content, source)
    root = document.value
    if isinstance(root, list):
        return parse(json.dumps(aeq_recipe.to_document(root, source), indent=1), source, name)
    if not isinstance(root, dict):
        raise document.error((), "not a recipe; it wants the keys version and passes")
    document.check_keys((), root, ("version", "description", "passes"))
    if root.get("version") != 1 or isinstance(root.get("version"), bool):
        found = f"is {_shown(root['version'])}" if "version" in root else "is missing"
        raise document.error(("version",), f"{found}; write 'version: 1'")
    if not isinstance(root.get("description", ""), str):
        raise document.error(("description",), f"is {_shown(root['description'])}; write text")
    entries = root.get("passes")
    if not isinstance(entries, list) or not entries:
        raise document.error(("passes",), "wants a list of at least one pass")
    passes = tuple(_pass(document, i, entry) for i, entry in enumerate(entries))
    _check_order(document, passes)
    return Recipe(name=name, description=root.get("description", ""), passes=passes)


def json_schema() -> dict[str, Any]:
    """The schema of recipe files: JSON Schema, draft 2020-12."""
    definitions: dict[str, Any] = {}
    alternatives = []
    for kind, model in PASSES.items():
        options = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(options.pop("$defs", {}))
        definitions[model.__name__] = options
        reference = {"anyOf": [{"$ref": f"#/$defs/{model.__name__}"}, {"type": "null"}]}
        alternatives += [
            {"const": kind},
            {"type": "object", "properties": {kind: reference}, "required": [kind], "additionalProperties": False},
        ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tfq recipe",
        "type": "object",
        "properties": {
            "version": {"const": 1},
            "description": {"type": "string"},
            "passes": {"type": "array", "minItems": 1, "items": {"anyOf": alternatives}},
        },
        "required": ["version", "passes"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _pass(document: _Document, index: int, entry: Any) -> PassConfig:
    at: tuple[Key, ...] = ("passes", index)
    if isinstance(entry, dict) and len(entry) == 1:
        kind, options = next(iter(entry.items()))
        at = (*at, kind)
    elif isinstance(entry, str):
        kind, options = entry, {}
    else:
        raise document.error(at, f"is {_shown(entry)}; write a pass's name, or its name and options: '- name: {{...}}'")
    if kind not in PASSES:
        raise document.error(at, f"unknown pass '{kind}'; {_suggestion(kind, list(PASSES), 'there are')}")
    options = {} if options is None else options
    if not isinstance(options, dict):
        raise document.error(at, f"options are {_shown(options)}; write {{key: value}}")
    try:
        return PASSES[kind].model_validate(options)
    except ValidationError as error:
        raise document.invalid(at, error.errors(include_url=False)[0], PASSES[kind].model_json_schema()) from None


def _check_order(document: _Document, passes: Sequence[PassConfig]) -> None:
    kinds = [config.kind for config in passes]
    for i, config in enumerate(passes):
        for needed in config.follows():
            if needed not in kinds[:i]:
                raise document.error(
                    ("passes", i), f"'{config.kind}' needs '{needed}' before it; put '- {needed}' there"
                )
        if "prune" in kinds[:i] and isinstance(config, _CHANGE_WEIGHTS):
            raise document.error(
                ("passes", i),
                f"'{config.kind}' changes weights that 'prune' chose by their size; put it before 'prune'",
            )
        if config.kind == "synthesize" and i:
            raise document.error(("passes", i), "'synthesize' reads what later passes fold or change; put it first")
        if config.kind == "convert" and i + 1 < len(passes):
            raise document.error(("passes", i + 1), f"'{kinds[i + 1]}' comes after 'convert'; put convert last")
    if kinds[-1] != "convert":
        raise document.error(("passes",), "no pass 'convert' at the end; add '- convert'")


class _Loader(yaml.SafeLoader):
    """YAML's safe subset, with numbers such as 1e-4, which YAML 1.1 takes for text."""


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


class _Document:
    """A parsed file that knows the line of every key.

    Attributes:
        value: dicts, lists and scalars.
        lines: line of the key or item at each path, counted from 1.
    """

    def __init__(self, content: str, source: str) -> None:
        self.source = source
        self.lines: dict[tuple[Key, ...], int] = {}
        # JSON may be indented with tabs, which YAML forbids.
        content = content.replace("\t", " ") if content.lstrip().startswith("{") else content
        try:
            loader = _Loader(content)
            node = loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f", line {mark.line + 1}" if mark else ""
            raise BadInput(f"{source}{line}: not YAML: {error.problem}; mend the syntax there") from error
        except yaml.YAMLError as error:
            first = str(error).splitlines()[0]
            raise BadInput(f"{source}: not YAML: {first}; give a recipe in YAML or JSON") from error
        self.value = None if node is None else self._plain(loader, node, ())

    def _plain(self, loader: _Loader, node: yaml.Node, at: tuple[Key, ...]) -> Any:
        self.lines.setdefault(at, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = str(key_node.value)
                below = (*at, key)
                if key in found:
                    line = key_node.start_mark.line + 1
                    raise BadInput(f"{self.source}, line {line}: key '{key}' stands here for the second time; keep one")
                self.lines[below] = key_node.start_mark.line + 1
                found[key] = self._plain(loader, value_node, below)
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(loader, item, (*at, i)) for i, item in enumerate(node.value)]
        try:
            return loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise self.error(at, f"is {node.value!r}, which is no value; write a number, text or true/false") from error

    def error(self, at: tuple[Key, ...], message: str) -> BadInput:
        """The error for the key at a path, with its line or that of the nearest key above it."""
        known = at
        while known and known not in self.lines:
            known = known[:-1]
        keys = [str(k) for k in at if isinstance(k, str) and k != "passes"] or [str(k) for k in at[:1]]
        where = f"{self.source}, line {self.lines.get(known, 1)}"
        return BadInput(f"{where}: {'.'.join(keys)}: {message}" if keys else f"{where}: {message}")

    def check_keys(self, at: tuple[Key, ...], value: Mapping[str, Any], known: Sequence[str]) -> None:
        for key in value:
            if key not in known:
                raise self.error((*at, key), f"unknown key; {_suggestion(key, known, 'known are')}")

    def invalid(self, at: tuple[Key, ...], problem: Any, schema: Mapping[str, Any]) -> BadInput:
        """What pydantic found, as an error with a line."""
        inner = tuple(problem["loc"])
        path = (*at, *inner)
        if problem["type"] == "extra_forbidden":
            known = list(_below(schema, inner[:-1]).get("properties", {}))
            return self.error(path, f"unknown key; {_suggestion(str(inner[-1]), known, 'known are')}")
        if problem["type"] == "missing":
            return self.error(path, "is missing; add it")
        if problem["type"] == "value_error":
            return self.error(path, str(problem["ctx"]["error"]))
        return self.error(path, f"is {_shown(problem['input'])}; allowed: {_allowed(_below(schema, inner), schema)}")


def _below(schema: Mapping[str, Any], path: Sequence[Key]) -> Mapping[str, Any]:
    """The part of a JSON schema that describes the value at a path."""
    here = _resolved(schema, schema)
    for key in path:
        here = _resolved(here["items"] if isinstance(key, int) else here["properties"][key], schema)
    return here


def _resolved(part: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follows a reference, and `X or null` to X."""
    if "anyOf" in part:
        part = next(p for p in part["anyOf"] if p.get("type") != "null")
    if "$ref" in part:
        part = schema["$defs"][part["$ref"].rsplit("/", 1)[-1]]
    return part


def _allowed(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A JSON schema's allowed values in words."""
    if "const" in part:
        return json.dumps(part["const"])
    if "enum" in part:
        return ", ".join(str(v) for v in part["enum"])
    if "properties" in part:
        return f"keys {', '.join(part['properties'])}"
    if part.get("type") == "array":
        return f"a list of entries with {_allowed(_resolved(part['items'], schema), schema)}"
    words = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text"}
    limits = [
        f"{sign} {part[key]}"
        for key, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
        if key in part
    ]
    if "minimum" in part and "maximum" in part:
        limits = [f"{part['minimum']}..{part['maximum']}"]
    shape = [f"like {part['pattern']}"] if "pattern" in part else []
    return " ".join([words[part["type"]], " and ".join(limits), *shape]).strip().replace("  ", " ")


def _suggestion(given: str, known: Sequence[str], introduction: str) -> str:
    close = difflib.get_close_matches(given, known, 1)
    return f"did you mean '{close[0]}'?" if close else f"{introduction} {', '.join(known) or 'none'}"


def _shown(value: Any) -> str:
    shown = json.dumps(value, default=str)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
