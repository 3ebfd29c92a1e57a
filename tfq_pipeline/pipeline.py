"""A recipe from start to end: the story on one page.

Model file to float graph, passes in the recipe's order, lowering, verification, metrics. Each pass is a function
from `State` to `State`, listed in `PASSES`; the state is data, so that every step can be looked at and resumed from.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from tfq_pipeline import importers, readers
from tfq_pipeline import recipe as recipes
from tfq_pipeline.calibration.outliers import weight_outliers
from tfq_pipeline.calibration.synthetic import can_distill, distilled
from tfq_pipeline.data import Data, InputSpec, noise
from tfq_pipeline.errors import BadInput
from tfq_pipeline.evaluation import measure
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.precision import float32
from tfq_pipeline.graph.protocol import Graph, LinearOp, Weights
from tfq_pipeline.graph.tflite_graph import TfliteGraph
from tfq_pipeline.lowering.convert import float_graph
from tfq_pipeline.lowering.lower import lower
from tfq_pipeline.lowering.reference import fake_quantized
from tfq_pipeline.lowering.steady import settled
from tfq_pipeline.lowering.verify import Comparison, verify
from tfq_pipeline.passes.accuracy_aware import Score, best, fall_back, score, sensitivity
from tfq_pipeline.passes.adaround import adaround
from tfq_pipeline.passes.analytic_bias_correction import analytic_bias_correction
from tfq_pipeline.passes.awq import awq
from tfq_pipeline.passes.bias_tuning import bias_tuning
from tfq_pipeline.passes.block_reconstruct import Tuner, reconstruct_blocks
from tfq_pipeline.passes.brecq import brecq
from tfq_pipeline.passes.calibrate import Calibration, calibrate
from tfq_pipeline.passes.cross_layer_equalization import cross_layer_equalization
from tfq_pipeline.passes.dense_and_sparse import dense_and_sparse
from tfq_pipeline.passes.gptq import gptq
from tfq_pipeline.passes.high_bias_absorption import high_bias_absorption
from tfq_pipeline.passes.outlier_channels import outlier_channels
from tfq_pipeline.passes.prune import Pruning, prune, takers
from tfq_pipeline.passes.quantease import quantease
from tfq_pipeline.passes.quantize import LayerRequest, Request, widened
from tfq_pipeline.passes.quantize import quantize as plan_layers
from tfq_pipeline.passes.reconstruct import Reconstruction, Technique, reconstruct
from tfq_pipeline.passes.side_paths import Split
from tfq_pipeline.passes.smooth_quant import smooth_quant
from tfq_pipeline.plan import Plan
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.inspect import inspect
from tfq_pipeline.tflite.interpreter import open_model
from tfq_pipeline.train.checkpoint import writable_folder

if TYPE_CHECKING:  # imports TensorFlow
    from tfq_pipeline.train.trainer import Trainer

Progress = Callable[[str, int, int | None], None]
DataLike = str | Data | Any

_VERIFIED_SAMPLES = 128
_RANKED_SAMPLES = 64

# Bits that layers are given back to.
_WIDE = 8


def silent(step: str, done: int, of: int | None) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, eq=False)
class Sources:
    """The data of a run; each may be missing, and a pass that needs a missing one says so."""

    calibration: Data | None
    train: Data | None
    test: Data | None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model that was read, for any number of recipes."""

    opened: importers.Opened

    @cached_property
    def converted(self) -> TfliteGraph:
        """The folded model as a float .tflite."""
        return float_graph(self.opened.graph.fold_batch_norm())


@float32()
def prepare(model: Any, replace: importers.Replacements = MappingProxyType({})) -> Prepared:
    """Reads a model as `quantize` takes it, or gives back one that was read already.

    Args:
        model: as `quantize` takes it.
        replace: what to take for custom layers, see `importers.load`.
    """
    return model if isinstance(model, Prepared) else Prepared(importers.open_graph(model, replace))


@dataclass(frozen=True, eq=False)
class State:
    """What passes hand on.

    Attributes:
        graph: the float model, changed by passes that change weights.
        sources: data.
        seed: of everything random.
        about: what the file's metadata say of the run.
        prepared: the user's model.
        progress: told pass name, done and total.
        converted: a float .tflite that differs from `graph` in weights alone, where there is one.
        parts: by layer that a pass made of another, the one that it is a part of, which rules know.
        least_bits: of the weights of layers that a pass made, whatever the rules say.
        kept: by pruned layer, which of its weights are not 0.
        calibration: activation ranges, once known.
        plan: the decision, once made.
        outliers: statistics of weights and activations as they were quantized, for the document.
        reference: the graph whose outputs are wanted, where a pass pruned `graph` or corrected its biases.
        data: the .tflite, once lowered.
        report: one entry a pass, for the document.
        checkpoints: folder for the state of training, None to keep none.
        trainer: what the user brings to training.
    """

    graph: Graph
    sources: Sources
    seed: int
    about: Mapping[str, Any]
    prepared: Prepared
    progress: Progress = silent
    converted: TfliteGraph | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    least_bits: Mapping[str, int] = field(default_factory=dict)
    kept: Mapping[str, np.ndarray] = field(default_factory=dict)
    calibration: Calibration | None = None
    plan: Plan | None = None
    outliers: tuple[Mapping[str, Any], ...] = ()
    reference: Graph | None = None
    data: bytes | None = None
    verification: Mapping[str, Any] = field(default_factory=dict)
    report: tuple[Mapping[str, Any], ...] = ()
    checkpoints: Path | None = None
    trainer: Trainer | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """A quantized model and how it came about.

    Attributes:
        data: the .tflite.
        float_data: the float .tflite of the same model.
        plan: what was decided for each tensor.
        graph: the folded graph with the weights that the plan belongs to.
        document: the `quantize` document of the interface.
    """

    data: bytes
    float_data: bytes
    plan: Plan
    graph: Graph
    document: dict[str, Any]

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics of the float, the fake-quantized and the quantized model, the drop from float to quantized and the
        gap from fake-quantized to quantized in points; empty without labelled data."""
        metrics: dict[str, Any] = self.document.get("metrics", {})
        return metrics

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the .tflite; it appears whole or not at all."""
        fb.write_file(path, self.data)
        self.document["output"] = os.fspath(path)


@float32()
def quantize(
    model: Any,
    recipe: str | os.PathLike[str] | recipes.Recipe,
    calibration: DataLike | None = None,
    data: DataLike | None = None,
    train: DataLike | None = None,
    seed: int = 0,
    progress: Progress = silent,
    target_drop: float | None = None,
    checkpoints: str | os.PathLike[str] | None = None,
    trainer: Trainer | None = None,
) -> Result:
    """Runs a recipe on a model.

    Args:
        model: path of a Keras file, a SavedModel or a float .tflite, a Keras model, or what `prepare` made of one.
        recipe: name of a built-in recipe, path of a recipe file, or a loaded recipe.
        calibration: samples to calibrate with; training data without labels where it is not given.
        data: labelled data to measure on; the name of a built-in data set brings all three.
        train: labelled data to train on.
        seed: of shuffling and initial values.
        progress: told pass name, done and total.
        target_drop: points that the recipe's accuracy_aware pass may lose, instead of its own.
        checkpoints: folder where training keeps its state after each epoch; the same run, started again, goes on from
            there.
        trainer: a `Trainer`, for recipes that train.

    Raises:
        BadInput: for a model, recipe or data that cannot be used, or data that the recipe needs and was not given.
        GateFailed: when the verification of the result fails.
    """
    chosen = recipe if isinstance(recipe, recipes.Recipe) else recipes.load(recipe)
    if target_drop is not None:
        chosen = chosen.with_target_drop(target_drop)
    calibration, train = readers.require(chosen.needs(), calibration, data, train)
    if trainer is not None and "train" not in chosen.needs():
        raise BadInput(f"recipe {chosen.name}: trains nothing, and a trainer was given; take a recipe with 'qat'")
    prepared = prepare(model)
    opened, graph = prepared.opened, prepared.opened.graph
    sources = _sources(graph.inputs, calibration, data, train, seed)
    # First of all, since it shows whether the data to measure on fit the model.
    before = None if sources.test is None else _measure(graph.run, sources.test, "float", progress)
    float_data = prepared.converted.data
    about = {
        "recipe": chosen.name,
        "model": opened.source,
        "float_size_bytes": len(float_data),
        "seed": seed,
    }
    kept = None if checkpoints is None else writable_folder(Path(checkpoints))
    state = State(graph, sources, seed, about, prepared, progress, checkpoints=kept, trainer=trainer)
    for config in chosen.passes:
        started = time.perf_counter()
        state, entry = PASSES[config.kind](state, config)
        seconds = round(time.perf_counter() - started, 3)
        state = replace(state, report=(*state.report, {"name": config.kind, "seconds": seconds, **entry}))
    if state.data is None or state.plan is None:
        raise BadInput(
            f"recipe {chosen.name}: has no pass 'convert'; end it with '- convert: {{inputs: int8, outputs: int8}}'"
        )
    document: dict[str, Any] = {
        "output": None,
        "model": opened.source,
        "recipe": chosen.name,
        "seed": seed,
        "passes": list(state.report),
        "inspect": inspect(state.data),
        "outliers": list(state.outliers),
        "verification": dict(state.verification),
        "data": {name: part.provenance for name, part in vars(state.sources).items() if part is not None},
    }
    if sources.test is not None and before is not None:
        after = _measure(open_model(state.data).run, sources.test, "quantized", progress)
        compared = Comparison(state.data, fake_quantized(state.graph, state.plan))
        trained = _measure(compared, sources.test, "fake-quantized", progress)
        document["verification"]["test"] = compared.document()
        document["metrics"] = {"float": before, "quantized": after, "fake_quantized": trained}
        if "accuracy" in before:
            document["metrics"]["accuracy_drop"] = _points(before, after)
            document["metrics"]["accuracy_gap"] = _points(trained, after)
    return Result(state.data, float_data, state.plan, state.graph, document)


def _sources(
    inputs: tuple[InputSpec, ...],
    calibration: DataLike | None,
    data: DataLike | None,
    train: DataLike | None,
    seed: int,
) -> Sources:
    def opened(source: DataLike | None, split: readers.Split, labels: bool) -> Data | None:
        if source is None or isinstance(source, Data):
            return source
        return readers.open_data(source, inputs, split, labels, seed=seed)

    labelled = opened(train, "train", True)
    samples = labelled if calibration is None else opened(calibration, "calibration", False)
    return Sources(samples, labelled, opened(data, "test", True))


def _synthesize(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    source, entry = config.source, dict[str, Any]()
    if source == "batch_norm" and isinstance(state.graph, KerasGraph) and can_distill(state.graph):
        made = distilled(
            state.graph,
            config.samples,
            config.steps,
            config.limits,
            state.seed,
            lambda done, of: state.progress("synthesize", done, of),
            config.classes,
        )
        data, losses = made.data, {"statistics": made.statistics, "cross_entropy": made.cross_entropy}
        entry = {name: [float(f"{v:.4g}") for v in values] for name, values in losses.items() if values is not None}
    else:
        source = "noise"
        data = noise(state.graph.inputs, config.samples, state.seed, limits=config.limits or (-1.0, 1.0))
        data = replace(data, provenance={"source": "noise", "samples": config.samples})
    sources = replace(state.sources, calibration=data)
    return replace(state, sources=sources), {"source": source, "samples": config.samples, **entry}


def _fold_batch_norm(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    folded = state.graph.fold_batch_norm()
    return replace(state, graph=folded, converted=state.prepared.converted), {"folded": len(state.graph.batch_norms())}


def _samples(state: State, count: int) -> Data:
    assert state.sources.calibration is not None
    return state.sources.calibration.take(count)


def _cross_layer_equalization(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    made = cross_layer_equalization(state.graph, _samples(state, config.samples))
    return replace(state, graph=made.graph), {"spread": _by_pair(made.spread)}


def _smooth_quant(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    made = smooth_quant(state.graph, _samples(state, config.samples), config.alpha)
    return replace(state, graph=made.graph), {"spread": _by_pair(made.spread)}


def _awq(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    made = awq(
        state.graph,
        _samples(state, config.samples),
        _weight_request(config.weights),
        config.grid,
        state.seed,
        lambda done, of: state.progress("awq", done, of),
    )
    found = {
        " to ".join(pair): {"alpha": alpha, "errors": [round(v, 6) for v in made.errors[pair]]}
        for pair, alpha in made.alphas.items()
    }
    return replace(state, graph=made.graph), {"scaled": found}


def _high_bias_absorption(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    made = high_bias_absorption(state.graph, _optional_samples(state, config.samples))
    largest = {" to ".join(pair): round(float(amount.max()), 4) for pair, amount in made.amounts.items()}
    return replace(state, graph=made.graph), {"absorbed": largest}


def _outlier_channels(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    made = outlier_channels(state.graph, _samples(state, config.samples), config.ratio, config.share)
    return _with_side_paths(state, made, config.bits)


def _dense_and_sparse(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    return _with_side_paths(
        state, dense_and_sparse(state.graph, config.percentile, config.share, config.gain), config.bits
    )


def _with_side_paths(state: State, made: Split, bits: int) -> tuple[State, dict[str, Any]]:
    split = replace(
        state,
        graph=made.graph,
        converted=float_graph(made.graph) if made.parts else state.converted,
        parts={**state.parts, **{part: state.parts.get(layer, layer) for part, layer in made.parts.items()}},
        least_bits={**state.least_bits, **dict.fromkeys(made.sides, bits)},
    )
    return split, {"channels": {name: channels.tolist() for name, channels in made.channels.items()}}


def _pruning(state: State, config: Any) -> tuple[Pruning, Callable[[LinearOp], bool]]:
    """What a recipe asks of zeros, and whether a layer is to have none."""
    known = _known(state)

    def skipped(op: LinearOp) -> bool:
        layer = known(op.name, op.type, op.op)
        return any(match.covers(layer) for match in config.skip)

    asked = {name: getattr(config, name) for name in ("pattern", "sparsity", "scope", "block")}
    return Pruning(**{name: value for name, value in asked.items() if value is not None}), skipped


def _prune(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    made = prune(state.graph, *_pruning(state, config))
    entry = {"sparsity": _sparsity(made.kept), "whole": dict(made.whole)}
    return replace(state, graph=made.graph, reference=state.graph, kept=made.kept), entry


def _sparsity(kept: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: round(1.0 - float(mask.mean()), 4) for name, mask in kept.items()}


def _ends(state: State) -> dict[str, set[recipes.Position]]:
    """The layers with weights that come first and last, as rules know them."""
    linear = [state.parts.get(op.name, op.name) for op in state.graph.linear_ops()]
    ends: dict[str, set[recipes.Position]] = {}
    if linear:
        ends.setdefault(linear[0], set()).add("first")
        ends.setdefault(linear[-1], set()).add("last")
    return ends


def _optional_samples(state: State, count: int) -> Data | None:
    return None if state.sources.calibration is None else _samples(state, count)


def _by_pair(spread: Mapping[tuple[str, str], tuple[float, float]]) -> dict[str, list[float]]:
    """Largest to median range of the channels between two layers, before and after."""
    return {" to ".join(pair): [round(v, 4) for v in values] for pair, values in spread.items()}


def _calibrate(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    assert state.sources.calibration is not None
    found = calibrate(
        state.graph,
        state.sources.calibration,
        config.method,
        config.samples,
        config.options,
        lambda done, of: state.progress("calibrate", done, of),
        None if state.converted is None else float_graph(state.graph, state.converted),
    )
    return replace(state, calibration=found), {
        "method": config.method,
        "samples": found.samples,
        "tensors": len(found.ranges),
    }


def _known(state: State) -> Callable[[str, str, str | None], recipes.Layer]:
    """What rules know of a layer, given its name, class and operator."""
    ends = _ends(state)
    sizes = {op.name: op.kernel.size for op in state.graph.linear_ops()}

    def layer(name: str, kind: str, op: str | None) -> recipes.Layer:
        whole = state.parts.get(name, name)
        return recipes.Layer(whole, kind, op, frozenset(ends.get(whole, ())), sizes.get(name))

    return layer


def _quantize(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    known = _known(state)

    def request(name: str, kind: str, op: str | None) -> LayerRequest:
        weights, activations = recipes.spec_for(config, known(name, kind, op))
        if weights is not None and weights.bits < (least := state.least_bits.get(name, 0)):
            weights = weights.model_copy(update={"bits": least})
        return _layer_request(weights, activations)

    plan = plan_layers(state.graph, state.calibration, request)
    if floats := [name for name in state.kept if plan.weights[name].is_float]:
        raise BadInput(f"layer '{floats[0]}': is pruned and stays float; add it to prune's skip, or quantize it")
    plan = plan.with_weights({name: replace(plan.weights[name], kept=mask) for name, mask in state.kept.items()})
    return replace(state, plan=plan, outliers=_outliers(state)), {"layers_by_bits": _layers_by_bits(plan)}


def _outliers(state: State) -> tuple[Mapping[str, Any], ...]:
    """Statistics of the weights and of the activations that were calibrated, for the document."""
    weights = {op.name: weight_outliers(op.kernel, op.channel_axis) for op in state.graph.linear_ops()}
    activations = {} if state.calibration is None else state.calibration.outliers
    return tuple(
        {
            "tensor": name,
            "kind": kind,
            "peak": round(found.peak, 3),
            "kurtosis": round(found.kurtosis, 3),
            "channels": [{"channel": channel, "ratio": round(ratio, 2)} for channel, ratio in found.channels],
        }
        for kind, statistics in (("activations", activations), ("weights", weights))
        for name, found in statistics.items()
    )


def _layers_by_bits(plan: Plan) -> dict[str, int]:
    return {str(bits): count for bits, count in sorted(Counter(t.bits for t in plan.weights.values()).items())}


def _layer_request(weights: recipes.WeightSpec | None, activations: recipes.ActivationSpec | None) -> LayerRequest:
    if weights is None or activations is None:
        return LayerRequest(None, None)
    return LayerRequest(
        _weight_request(weights, decoded=activations.mode == "float"),
        Request(activations.bits, activations.symmetric or activations.bits == 16)
        if activations.mode == "static"
        else None,
    )


def _weight_request(spec: recipes.WeightSpec, decoded: bool = False) -> Request:
    return Request(
        spec.bits, spec.symmetric, spec.granularity, range=spec.range, group_size=spec.group_size, decoded=decoded
    )


def _reconstructed(state: State, made: Reconstruction, reference: Graph) -> tuple[State, dict[str, Any]]:
    errors = {name: [round(v, 6) for v in values] for name, values in made.errors.items()}
    return replace(state, graph=made.graph, plan=made.plan, reference=reference), {"relative_errors": errors}


def _reconstruct(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    if state.plan is None:
        raise BadInput(f"recipe: '{config.kind}' works on a plan; put 'quantize' before it")
    reference = state.reference or state.graph
    made = reconstruct(
        reference,
        state.plan,
        _samples(state, config.samples),
        _TECHNIQUES[config.kind](config),
        state.seed,
        lambda done, of: state.progress(config.kind, done, of),
    )
    return _reconstructed(state, made, reference)


def _reconstruct_blocks(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    if state.plan is None:
        raise BadInput(f"recipe: '{config.kind}' works on a plan; put 'quantize' before it")
    reference = state.reference or state.graph
    made = reconstruct_blocks(
        reference,
        state.graph,
        state.plan,
        _samples(state, config.samples),
        _TUNERS[config.kind](config),
        state.seed,
        lambda done, of: state.progress(config.kind, done, of),
    )
    return _reconstructed(state, made, reference)


def _analytic_bias_correction(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    assert state.plan is not None
    reference = state.reference or state.graph
    made = analytic_bias_correction(reference, state.plan, _optional_samples(state, config.samples))
    entry = {"corrected": list(made.layers), "unknown": list(made.unknown)}
    return replace(state, graph=made.graph, reference=reference), entry


# How integers are chosen, given a pass's options; None leaves them as they are.
_TECHNIQUES: Mapping[str, Callable[[Any], Technique | None]] = {
    "bias_correction": lambda config: None,
    "gptq": lambda config: lambda t, scale, a, low, high, start: gptq(t, scale, a, low, high),
    "quantease": lambda config: partial(quantease, sweeps=config.sweeps),
    "adaround": lambda config: lambda t, scale, a, low, high, start: adaround(t, scale, a, low, high, config.steps),
}


# How blocks are tuned, given a pass's options.
_TUNERS: Mapping[str, Callable[[Any], Tuner]] = {
    "brecq": lambda config: partial(brecq, steps=config.steps),
    "bias_tuning": lambda config: partial(bias_tuning, steps=config.steps),
}


class _OutOfTime(Exception):
    """A try of `accuracy_aware` that is given up."""


def _accuracy_aware(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    if state.plan is None:
        raise BadInput("recipe: 'accuracy_aware' works on a plan; put 'quantize' before it")
    labelled = state.sources.train or state.sources.calibration
    assert labelled is not None
    held_out = labelled.take(config.samples)
    scored = _scorer(state, held_out)
    tried, given_up = _tries(state, config)
    scores = {names: scored(tried[names].graph, _plan(tried[names])) for names in tried}
    chosen = tuple(tried)[best(tuple(scores.values()))]
    kept = tried[chosen]
    plan, reference = _plan(kept), kept.reference or kept.graph
    ops = {op.name: op for op in reference.linear_ops()}
    wider = widened(reference, plan, _WIDE)

    # Biases were corrected for the narrow weights; a layer that is given back takes its own again.
    def mended(plan: Plan) -> Graph:
        own = {n: Weights(ops[n].kernel, ops[n].bias) for n in wider if plan.weights[n].bits == _WIDE}
        return kept.graph.with_weights(own)

    harm = sensitivity(reference, plan, held_out.take(_RANKED_SAMPLES))
    order = sorted(wider, key=lambda name: -harm[name])
    target, lost = config.target_drop, scores[chosen].drop
    found = fall_back(plan, wider, order, lambda plan: scored(mended(plan), plan).drop, target, lost)
    entry = {
        "tried": [
            {"passes": _sum(names), "drop": round(one.drop, 4), "output_error": float(f"{one.error:.4g}")}
            for names, one in scores.items()
        ],
        "given_up": [_sum(names) for names in given_up],
        "chosen": _sum(chosen),
        "given_back": list(found.layers),
        "held_out": {"data": held_out.name, "samples": held_out.samples, "drop": round(found.drop, 4)},
        "reached": found.drop <= target,
        "layers_by_bits": _layers_by_bits(found.plan),
    }
    return replace(kept, graph=mended(found.plan), plan=found.plan, reference=reference), entry


def _plan(state: State) -> Plan:
    assert state.plan is not None
    return state.plan


def _sum(names: tuple[str, ...]) -> str:
    return " + ".join(names) or "as planned"


def _tries(state: State, config: Any) -> tuple[dict[tuple[str, ...], State], list[tuple[str, ...]]]:
    """What lists of passes make of a state, itself first, and the lists that there was no time for.

    A list goes on from the longest one before it that it begins with. The first is finished however long it takes.
    """
    end = time.perf_counter() + config.seconds
    made: dict[tuple[str, ...], State] = {(): state}
    given_up = []

    def watched(step: str, done: int, of: int | None) -> None:
        if len(made) > 1 and time.perf_counter() > end:
            raise _OutOfTime
        state.progress(step, done, of)

    for number, names in enumerate(config.tries, 1):
        known = max((n for n in made if names[: len(n)] == n), key=len)
        tried = replace(made[known], progress=watched)
        try:
            for name in names[len(known) :]:
                watched(name, 0, None)
                tried, _ = PASSES[name](tried, recipes.PASSES[name].model_validate({}))
            made[names] = replace(tried, progress=state.progress)
        except _OutOfTime:
            given_up.append(names)
        state.progress("accuracy_aware", number, len(config.tries))
    return made, given_up


def _scorer(state: State, held_out: Data) -> Callable[[Graph, Plan], Score]:
    """Scores the file that a plan becomes on held-out data: against labels where there are any, else against what the
    float model answers."""
    wanted = np.concatenate([state.graph.run(batch.inputs)[0] for batch in held_out])
    labels = [batch.labels for batch in held_out if batch.labels is not None and batch.labels.dtype.kind in "iu"]
    truth = np.concatenate(labels) if labels else wanted.argmax(axis=-1)

    def scored(graph: Graph, plan: Plan) -> Score:
        model = open_model(lower(graph, plan, "int8", "int8", {}, like=state.converted))
        outputs = np.concatenate([model.run(batch.inputs)[0] for batch in held_out])
        return score(outputs, wanted, truth)

    return scored


def _qat(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    from tfq_pipeline.train.oscillation import Oscillation
    from tfq_pipeline.train.pruning import Sparsification

    oscillation = None if config.oscillations is None else Oscillation(**config.oscillations.model_dump())
    more, entry = dict[str, Any](), dict[str, Any]()
    if (rising := config.sparsify) is not None:
        if state.kept:
            raise BadInput("recipe: qat: sparsify: 'prune' has chosen the zeros already; leave one of them out")
        asked, skipped = _pruning(state, rising)
        ops, entry["whole"] = takers(state.graph, asked, skipped, "qat.sparsify")
        layers = tuple(op.name for op in ops)
        more["sparsification"] = Sparsification(asked, layers, rising.start, rising.end, rising.every)
    stages = [(stage.bits, stage.epochs) for stage in config.progressive]
    trained = _trained(state, config, stages, oscillation=oscillation, **more)
    if rising is not None:
        kept = {name: trained.plan.weights[name].kept for name in more["sparsification"].layers}
        entry["sparsity"] = _sparsity(kept)
    return replace(state, graph=trained.graph, plan=trained.plan, reference=None), {"history": trained.history, **entry}


def _learn_bits(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    from tfq_pipeline.passes.cost import COSTS, read_latencies, work
    from tfq_pipeline.train.learned_bits import LearnedBits, trajectory, without_trajectory

    kind, share = config.budget.cost
    table = {} if config.latency_table is None else read_latencies(config.latency_table)
    bits = LearnedBits(
        config.widths,
        kind,
        share,
        tuple((layer, tuple(entries.items())) for layer, entries in table.items()),
        config.bits_learning_rate,
        config.error,
        config.regularization,
    )
    trained = _trained(state, config, weights="lsq", bits=bits)
    layers = work(trained.graph, trained.plan)

    def kilobytes(cost: str) -> list[float]:
        widths = [{n: t.bits for n, t in plan.weights.items()} for plan in (_plan(state), trained.plan)]
        return [round(sum(COSTS[cost](layers[n], of[n]) for n in layers), 3) for of in widths]

    entry = {
        "bits": {name: planned.bits for name, planned in trained.plan.weights.items()},
        "budget": {kind: share},
        "kilobytes": {"at their bits": kilobytes("bits"), "in the file": kilobytes("size")},
        "trajectory": trajectory(trained.history),
        "history": without_trajectory(trained.history),
        "layers_by_bits": _layers_by_bits(trained.plan),
    }
    return replace(state, graph=trained.graph, plan=trained.plan, reference=None), entry


def _trained(state: State, config: Any, stages: Sequence[tuple[int, int]] = (), **more: Any) -> Any:
    """What training makes of a plan, with the pass's options that `Training` has by the same name, and more, after the
    stages of `progressive`."""
    from tfq_pipeline.train.distillation import Distillation
    from tfq_pipeline.train.progressive import progressive
    from tfq_pipeline.train.qat import Training, qat

    if state.plan is None:
        raise BadInput(f"recipe: '{config.kind}' trains a plan; put 'quantize' before it")
    assert state.sources.train is not None
    if not isinstance(state.graph, KerasGraph):
        raise BadInput(f"recipe: '{config.kind}' trains a Keras model; pass the model that the .tflite came from")
    names = {field.name for field in fields(Training)} & set(type(config).model_fields)
    asked = {name: getattr(config, name) for name in names}
    taught = None if config.distil is None else Distillation(**config.distil.model_dump())
    options = Training(seed=state.seed, distillation=taught, **asked, **more)
    data, teacher = state.sources.train, state.reference if isinstance(state.reference, KerasGraph) else state.graph

    def train(graph: KerasGraph, plan: Plan, epochs: int) -> Any:
        return qat(
            graph,
            plan,
            data,
            replace(options, epochs=epochs),
            lambda done, of: state.progress(config.kind, done, of),
            teacher,
            state.checkpoints,
            state.trainer,
        )

    return progressive(state.graph, state.plan, stages, config.epochs, train)


def _convert(state: State, config: Any) -> tuple[State, dict[str, Any]]:
    if state.plan is None:
        raise BadInput("recipe: 'convert' writes a plan; put 'quantize' before it")
    users = state.prepared.opened.layer_names
    state = replace(state, plan=settled(state.graph, state.plan))
    assert state.plan is not None
    names = {**users, **{part: users.get(layer, layer) for part, layer in state.parts.items()}}
    data = lower(state.graph, state.plan, config.inputs, config.outputs, state.about, names, state.converted)
    samples = (
        state.sources.calibration or state.sources.test or noise(state.graph.inputs, _VERIFIED_SAMPLES, state.seed)
    )
    started = time.perf_counter()
    checked = verify(
        data,
        state.graph,
        state.plan,
        fake_quantized(state.graph, state.plan),
        samples.take(_VERIFIED_SAMPLES),
        require_integer=not state.plan.floats,
    )
    entry = {"bytes": len(data), "verify_seconds": round(time.perf_counter() - started, 3)}
    return replace(state, data=data, verification=checked.document()), entry


PASSES: Mapping[str, Callable[[State, Any], tuple[State, dict[str, Any]]]] = {
    "synthesize": _synthesize,
    "fold_batch_norm": _fold_batch_norm,
    "cross_layer_equalization": _cross_layer_equalization,
    "smooth_quant": _smooth_quant,
    "awq": _awq,
    "high_bias_absorption": _high_bias_absorption,
    "outlier_channels": _outlier_channels,
    "dense_and_sparse": _dense_and_sparse,
    "prune": _prune,
    "calibrate": _calibrate,
    "quantize": _quantize,
    **dict.fromkeys(_TECHNIQUES, _reconstruct),
    **dict.fromkeys(_TUNERS, _reconstruct_blocks),
    "analytic_bias_correction": _analytic_bias_correction,
    "accuracy_aware": _accuracy_aware,
    "learn_bits": _learn_bits,
    "qat": _qat,
    "convert": _convert,
}


def _points(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Accuracy lost, in points."""
    return round((before["accuracy"] - after["accuracy"]) * 100, 4)


def _measure(run: Any, test: Data, which: str, progress: Progress) -> dict[str, float]:
    return measure(run, test, lambda done, of: progress(f"evaluate {which}", done, of))
