"""Quantization-aware training with the straight-through estimator (Jacob et al. 2018, section 3), through TFMOT.

It starts from a plan and ends in one. Batch norm is folded before, so that training sees the weights that inference
will see.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tfq_pipeline.annotate.layout import layout
from tfq_pipeline.annotate.quantizers import Techniques
from tfq_pipeline.annotate.scheme import PREFIX, annotate
from tfq_pipeline.data import Batch, Data, check_classes
from tfq_pipeline.errors import BadInput, TfqError
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.keras_layers import LINEAR
from tfq_pipeline.graph.protocol import LinearOp, Weights
from tfq_pipeline.numerics.affine import Affine, float_range, from_range
from tfq_pipeline.passes.calibrate import scale_source, shared_scales
from tfq_pipeline.passes.quantize import read_by_kernels, with_legal_scales
from tfq_pipeline.plan import Plan, TensorPlan
from tfq_pipeline.train.checkpoint import Checkpoint, assign, fingerprint
from tfq_pipeline.train.companion import Companion
from tfq_pipeline.train.distillation import (
    TASK,
    TEACHER,
    Distillation,
    feature,
    feature_loss,
    lesson,
    logits_loss,
)
from tfq_pipeline.train.learned_bits import Budget, LearnedBits, LearningBits, budget
from tfq_pipeline.train.oscillation import UNIFORM, Oscillation, SteadyWeights
from tfq_pipeline.train.pruning import RisingSparsity, SparseWeights, Sparsification
from tfq_pipeline.train.trainer import Trainer


@dataclass(frozen=True)
class Training:
    """Options of a run.

    Attributes:
        epochs: passes over the data.
        batch_size: samples a step.
        learning_rate: at the start; it falls to 0 along a cosine.
        optimizer: "adam" or "sgd" (momentum 0.9).
        momentum: share of an activation range that stays at each step.
        samples: how many of the data to use in each epoch, None for all.
        seed: of shuffling and initial values.
        weights, activations: how their scales are found, names in `annotate.quantizers`.
        decay: of PACT's clipping levels.
        distillation: what a teacher has a say in, None for labels alone.
        bits: how bits of weights are learned, None to keep the plan's.
        oscillation: what is done about weights that oscillate on the grids of "min_max" and "lsq", None for nothing.
        sparsification: how weights become 0 on the way, None to leave them.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str = "adam"
    momentum: float = 0.999
    samples: int | None = None
    seed: int = 0
    weights: str = "min_max"
    activations: str = "moving_average"
    decay: float = 0.0
    distillation: Distillation | None = None
    bits: LearnedBits | None = None
    oscillation: Oscillation | None = None
    sparsification: Sparsification | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained graph, its plan, and loss and accuracy by epoch."""

    graph: KerasGraph
    plan: Plan
    history: dict[str, list[float]]


def qat(
    graph: KerasGraph,
    plan: Plan,
    data: Data,
    options: Training,
    progress: Callable[[int, int | None], None] = lambda done, of: None,
    teacher: KerasGraph | None = None,
    checkpoints: Path | None = None,
    trainer: Trainer | None = None,
) -> Trained:
    """Trains weights and activation ranges of a folded graph under its plan.

    The loss is the cross entropy of integer labels and logits (one logit: of two classes), or the squared error of
    float labels, unless the trainer has one.

    Args:
        graph: folded; not changed.
        plan: bits and granularity to train for, and scales and integers to start from.
        data: labelled; each epoch has an order of its own where the data can be read in any.
        options: see `Training`.
        progress: told the steps done and the total after each step.
        teacher: float graph with the layers of `graph`, for distillation; `graph` itself by default.
        checkpoints: folder where the state is kept after each epoch. A run with the same weights, plan, options and
            data goes on from what it finds there and ends as if it had never stopped.
        trainer: what the user brings.

    Raises:
        BadInput: for data without labels or samples, labels that do not fit the output, a model with several outputs,
            or a loss that became NaN.
    """
    import tensorflow as tf
    import tf_keras

    trainer = trainer or Trainer()
    tf_keras.utils.set_random_seed(options.seed)
    frozen = frozenset(t.name for t in graph.tensors() if t.fixed is not None)
    started = graph.with_weights(
        {op.name: Weights(_starting_kernel(plan.weights[op.name], op.kernel), op.bias) for op in graph.linear_ops()}
    )
    spending = None if options.bits is None else budget(graph, plan, options.bits)
    how = Techniques(
        options.weights,
        options.activations,
        options.momentum,
        options.decay,
        frozen,
        widths={} if spending is None else spending.widths,
        pace=1.0 if options.bits is None else options.bits.learning_rate / options.learning_rate,
    )
    with trainer.scope():
        model = annotate(started.before_fixed_outputs(), plan, how)

    def epoch(number: int) -> Data:
        ordered = data.epoch(number)
        used = ordered if options.samples is None else ordered.take(options.samples)
        return used.rebatched(options.batch_size)

    used = epoch(0)
    first = next(iter(used), None)
    if first is None or first.labels is None:
        found = "no samples" if first is None else "no labels"
        raise BadInput(f"training data {data.name}: found {found}; QAT needs labelled samples, give --train")
    if len(model.outputs) != 1:
        found = ", ".join(model.output_names)
        raise BadInput(
            f"model '{model.name}': has {len(model.outputs)} outputs ({found}), QAT trains models with one; "
            "take the others out, or use a static recipe"
        )
    outputs = tuple(model.output_shape)
    classes = first.labels.dtype.kind in "iu"
    binary = outputs[-1] == 1
    steps = None if used.samples is None else -(-used.samples // options.batch_size) * options.epochs
    rate: Any = (
        options.learning_rate
        if steps is None
        else tf_keras.optimizers.schedules.CosineDecay(options.learning_rate, steps)
    )
    optimizers = {
        "adam": lambda rate: tf_keras.optimizers.Adam(rate),
        "sgd": lambda rate: tf_keras.optimizers.SGD(rate, momentum=0.9),
    }
    distilled = options.distillation
    said = None if distilled is None else lesson(teacher or graph, distilled.features)
    losses, weights = {TASK: trainer.loss or _loss(classes, binary)}, {TASK: 1.0}
    if distilled is not None:
        losses[TEACHER] = logits_loss(classes, binary, distilled.temperature)
        weights = {TASK: 1.0 - distilled.weight, TEACHER: distilled.weight}
        losses.update({feature(name): feature_loss for name in distilled.features})
        weights.update({feature(name): distilled.feature_weight for name in distilled.features})
    history: dict[str, list[float]] = {}
    with trainer.scope():
        companions = _companions(model, graph, plan, options, spending, steps, history)
        student = _with_outputs(model, {name: name.removeprefix(feature("")) for name in losses if name != TASK})
        for companion in companions:
            student.add_loss(companion.loss)
        optimizer = trainer.optimizer_of(rate, optimizers[options.optimizer])
        metrics = {TASK: [*_metrics(classes, binary), *trainer.metrics]}
        student.compile(optimizer=optimizer, loss=losses, loss_weights=weights, metrics=metrics)
        optimizer.build(student.trainable_variables)

    def targets(batch: Batch) -> dict[str, np.ndarray]:
        assert batch.labels is not None
        if classes and trainer.loss is None:
            check_classes(batch.labels, outputs, data.name, None)
        return {TASK: batch.labels, **({} if said is None else said(batch.inputs))}

    refused: list[TfqError] = []
    state = [*student.variables, *optimizer.variables, *(v for companion in companions for v in companion.state)]
    run = fingerprint(graph, plan, options, data.name + trainer.described(optimizer))
    file = None if checkpoints is None else checkpoints / f"{run}.npz"
    kept = None if file is None else Checkpoint.load(file)
    if kept is not None:
        assign(state, kept.variables)
        history.update(kept.history)
    epochs = itertools.count(begin := 0 if kept is None else kept.epochs)

    def batches() -> Any:
        try:
            for batch in epoch(next(epochs)):
                yield (batch.inputs if len(batch.inputs) > 1 else batch.inputs[0]), targets(batch)
        except TfqError as error:
            refused.append(error)
            raise

    def spec(x: np.ndarray) -> Any:
        return tf.TensorSpec((None, *x.shape[1:]), x.dtype)

    inputs = tuple(spec(x) for x in first.inputs)
    signature = (inputs if len(inputs) > 1 else inputs[0], {name: spec(x) for name, x in targets(first).items()})
    stream = tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2)
    done = int(optimizer.iterations.numpy())

    def count(batch: int, logs: Any) -> None:
        nonlocal done
        done += 1
        progress(done, steps)

    def keep(number: int, logs: Any) -> None:
        # Of data whose length Keras does not know, it counts the attempt at a step behind the last as one.
        optimizer.iterations.assign(done)
        for name, value in logs.items():
            known = name if name == f"{TASK}_loss" else name.removeprefix(f"{TASK}_")
            history.setdefault(known, []).append(float(value))
        if file is not None and np.isfinite(logs["loss"]):
            Checkpoint(tuple(v.numpy() for v in state), number + 1, history).save(file)

    callbacks = [
        *companions,
        tf_keras.callbacks.LambdaCallback(on_train_batch_end=count, on_epoch_end=keep),
        tf_keras.callbacks.TerminateOnNaN(),
        *trainer.callbacks,
    ]
    try:
        with trainer.computing():
            student.fit(stream, epochs=options.epochs, initial_epoch=begin, verbose=0, callbacks=callbacks)
    except tf.errors.OpError:
        # TensorFlow passes on what its generator raised as text alone.
        if refused:
            raise refused[0] from None
        raise
    if student.stop_training and file is not None and np.isfinite(history["loss"]).all():
        # A callback ended the run: there is nothing to go on with.
        Checkpoint(tuple(v.numpy() for v in state), options.epochs, history).save(file)
    if not np.isfinite(history["loss"]).all():
        raise BadInput(
            f"training on {data.name}: the loss became NaN; "
            f"lower learning_rate (now {options.learning_rate:g}) in the recipe"
        )
    for companion in companions:
        companion.finish()
        plan = companion.planned(plan)
    return Trained(*_extract(model, graph, plan), history)


def _companions(
    model: Any,
    graph: KerasGraph,
    plan: Plan,
    options: Training,
    spending: Budget | None,
    steps: int | None,
    history: dict[str, list[float]],
) -> list[Companion]:
    """What goes along with a run: learned bits, pruned weights, oscillations."""
    found: list[Companion] = []
    if options.bits is not None and spending is not None:
        quantizers = {name: _weight_quantizer(model, name) for name in spending.widths}
        found.append(LearningBits(quantizers, spending, options.bits, history))
    if sparse := [op for op in graph.linear_ops() if plan.weights[op.name].kept is not None]:
        masked = []
        for op in sparse:
            kernel = _kernel_with_zeros(model, op, plan.weights[op.name], options.weights)
            mask = plan.weights[op.name].kept
            assert mask is not None
            masked.append((kernel, LINEAR[op.type].from_tflite(mask, tuple(kernel.shape))))
        found.append(SparseWeights(masked, history))
    if (rising := options.sparsification) is not None:
        if steps is None:
            raise BadInput(
                "recipe: qat: sparsify: wants training data whose number of samples is known; give 'samples'"
            )
        found.append(RisingSparsity(_layouts(model, graph, plan, options, rising.layers), rising, steps, history))
    if options.oscillation is not None:
        # After pruned weights are 0 again.
        planned = [name for name, of in plan.weights.items() if not of.is_float]
        uniform = [one for name in planned if isinstance((one := _weight_quantizer(model, name))[1], UNIFORM)]
        found.append(SteadyWeights(uniform, options.oscillation, steps, history))
    return found


def _with_outputs(model: Any, layers: Mapping[str, str]) -> Any:
    """The model with its output named `TASK`, and more outputs by name: what a layer writes, or the output again."""
    import tf_keras

    def named(tensor: Any, name: str) -> Any:
        return tf_keras.layers.Activation("linear", name=name)(tensor)

    written = {layer.name.removeprefix(PREFIX): layer for layer in model.layers}
    tensors = {name: model.output if name == TEACHER else written[of].output for name, of in layers.items()}
    outputs = {name: named(tensor, name) for name, tensor in {TASK: model.output, **tensors}.items()}
    return tf_keras.Model(model.inputs, outputs, name=model.name)


def _weight_quantizer(model: Any, layer: str) -> tuple[Any, Any, Any]:
    """A layer's kernel, its quantizer, and the quantizer's variables."""
    ((kernel, quantizer, variables),) = model.get_layer(PREFIX + layer)._weight_vars
    return kernel, quantizer, variables


def _kernel_with_zeros(model: Any, op: LinearOp, planned: TensorPlan, technique: str) -> Any:
    """A layer's kernel, whose grid must have a 0."""
    kernel, quantizer, _ = _weight_quantizer(model, op.name)
    if not quantizer.has_zero:
        raise BadInput(
            f"layer '{op.name}' ({op.type}): weights of it are pruned, and weights: {technique} of {planned.bits} bits "
            "has no 0; train with lsq or ternary, or skip the layer in prune"
        )
    return kernel


def _layouts(model: Any, graph: KerasGraph, plan: Plan, options: Training, layers: Sequence[str]) -> dict[str, Any]:
    """By layer its kernel, and what takes arrays of it to TFLite's layout and back."""
    found = {}
    for op in graph.linear_ops():
        if op.name in layers:
            kernel = _kernel_with_zeros(model, op, plan.weights[op.name], options.weights)
            found[op.name] = (kernel, LINEAR[op.type].to_tflite, partial(_to_keras, op.type, tuple(kernel.shape)))
    return found


def _to_keras(kind: str, shape: tuple[int, ...], values: np.ndarray) -> np.ndarray:
    return LINEAR[kind].from_tflite(values, shape)


def _loss(classes: bool, binary: bool) -> Any:
    from tf_keras import losses

    if not classes:
        return losses.MeanSquaredError()
    kind = losses.BinaryCrossentropy if binary else losses.SparseCategoricalCrossentropy
    return kind(from_logits=True)


def _metrics(classes: bool, binary: bool) -> list[Any]:
    from tf_keras import metrics

    if not classes:
        return []
    # A logit above 0 is a probability above a half.
    return [metrics.BinaryAccuracy("accuracy", threshold=0.0) if binary else "accuracy"]


def _starting_kernel(planned: TensorPlan, kernel: np.ndarray) -> np.ndarray:
    """Weights that round to what the plan has: the kernel's own, but for integers that a pass chose otherwise."""
    if planned.values is None:
        return planned.pruned(kernel)
    nearest = replace(planned, values=None).integers(kernel)
    return np.where(nearest == planned.values, kernel, planned.represented(kernel))


def _extract(model: Any, graph: KerasGraph, plan: Plan) -> tuple[KerasGraph, Plan]:
    """Weights and scales of a trained model, as a graph and the plan that fits it."""
    wrappers = {layer.name.removeprefix(PREFIX): layer for layer in model.layers if layer.name.startswith(PREFIX)}
    updates, learned = {}, {}
    for op in graph.linear_ops():
        wrapper, kind, planned = wrappers[op.name], LINEAR[op.type], plan.weights[op.name]
        bias = wrapper.layer.bias.numpy() if wrapper.layer.use_bias else None
        kernel = next(w for w in wrapper.trainable_weights if f"/{kind.kernel}:" in f"/{w.name}").numpy()
        updates[op.name] = Weights(np.ascontiguousarray(kind.to_tflite(kernel)), bias)
        if planned.affine is not None:
            lies = layout(op.name, op.type, kernel.shape, planned)
            _, quantizer, variables = _weight_quantizer(model, op.name)
            seen = kernel.reshape(lies.view)
            integers = quantizer.integers(seen, variables)
            values = None if integers is None else np.ascontiguousarray(kind.to_tflite(integers.reshape(kernel.shape)))
            scale = lies.to_plan(np.asarray(quantizer.scale(seen, variables)))
            learned[op.name] = quantizer.width(variables), scale, values
    trained = graph.with_weights(updates)
    tensors = trained.tensors()
    moved = plan.with_activations(_trained_activations(model, graph, plan))
    weights = {}
    for op in trained.linear_ops():
        planned = plan.weights[op.name]
        if planned.affine is not None:
            read = moved.activations.get(scale_source(tensors, op.input))
            source = None if op.name in plan.floats or read is None else read_by_kernels(read)
            bits, scale, values = learned[op.name]
            affine = replace(planned.affine, bits=bits, scale=scale)
            affine = with_legal_scales(op, affine, source, planned.group_size)
            weights[op.name] = replace(planned, bits=bits, affine=affine, values=values)
    return trained, moved.with_weights(weights)


def _trained_activations(model: Any, graph: KerasGraph, plan: Plan) -> dict[str, TensorPlan]:
    """Activations whose parameters training may have moved."""
    fixed = {t.name for t in graph.tensors() if t.fixed is not None}
    found: dict[str, Affine] = {}
    for layer in model.layers:
        name = layer.name.removeprefix(PREFIX).removesuffix("_quantize")
        if name in plan.activations and name not in fixed:
            for quantizer, variables in _activation_quantizers(layer):
                found[name] = quantizer.affine({key: value.numpy() for key, value in variables.items()})
    for group in shared_scales(graph.tensors()):
        known = [found[name] for name in group if name in found]
        if known and any(_differ(known[0], other) for other in known):
            ends = [float_range(affine) for affine in known]
            low, high = min(float(low[0]) for low, _ in ends), max(float(high[0]) for _, high in ends)
            for name in group:
                if name in plan.activations:
                    planned = plan.activations[name]
                    found[name] = from_range(low, high, planned.bits, symmetric=known[0].symmetric)
    return {name: replace(plan.activations[name], affine=affine) for name, affine in found.items()}


def _activation_quantizers(layer: Any) -> list[tuple[Any, Any]]:
    if hasattr(layer, "quantizer"):  # of a model input
        return [(layer.quantizer, layer.quantizer_vars)]
    quantizers = getattr(layer, "_output_quantizers", [])
    return [(quantizers[0], layer._output_quantizer_vars)] if quantizers else []


def _differ(a: Affine, b: Affine) -> bool:
    return a.scale[0] != b.scale[0] or a.zero_point[0] != b.zero_point[0]
