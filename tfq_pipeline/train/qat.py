"""Quantization-aware training with the straight-through estimator (Jacob et al. 2018, section 3), through TFMOT.

It starts from a plan and ends in one. Batch norm is folded before, so that training sees the weights that inference
will see.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfq_pipeline.annotate.scheme import PREFIX, Ranges, annotate
from tfq_pipeline.data import Data, check_classes
from tfq_pipeline.errors import BadInput, TfqError
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.keras_layers import LINEAR
from tfq_pipeline.graph.protocol import Weights
from tfq_pipeline.numerics.affine import from_range
from tfq_pipeline.passes.calibrate import scale_source, shared_scales
from tfq_pipeline.passes.quantize import Request, weight_plan
from tfq_pipeline.plan import Plan, TensorPlan


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
    """

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str = "adam"
    momentum: float = 0.999
    samples: int | None = None
    seed: int = 0


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
) -> Trained:
    """Trains weights and activation ranges of a folded graph under its plan.

    The loss is the cross entropy of integer labels and logits (one logit: of two classes), or the squared error of
    float labels.

    Args:
        graph: folded; not changed.
        plan: bits and granularity to train for, and ranges to start from.
        data: labelled; each epoch has an order of its own where the data can be read in any.
        options: see `Training`.
        progress: told the steps done and the total after each step.

    Raises:
        BadInput: for data without labels or samples, labels that do not fit the output, a model with several outputs,
            or a loss that became NaN.
    """
    import tensorflow as tf
    import tf_keras

    tf_keras.utils.set_random_seed(options.seed)
    frozen = frozenset(t.name for t in graph.tensors() if t.fixed is not None)
    model = annotate(graph.before_fixed_outputs(), plan, Ranges(options.momentum, frozen))

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
        "adam": lambda: tf_keras.optimizers.Adam(rate),
        "sgd": lambda: tf_keras.optimizers.SGD(rate, momentum=0.9),
    }
    model.compile(
        optimizer=optimizers[options.optimizer](),
        loss=_loss(classes, binary),
        metrics=_metrics(classes, binary),
    )
    refused: list[TfqError] = []

    epochs = itertools.count()

    def batches() -> Any:
        try:
            for batch in epoch(next(epochs)):
                assert batch.labels is not None
                if classes:
                    check_classes(batch.labels, outputs, data.name, None)
                yield (batch.inputs if len(batch.inputs) > 1 else batch.inputs[0]), batch.labels
        except TfqError as error:
            refused.append(error)
            raise

    def spec(x: np.ndarray) -> Any:
        return tf.TensorSpec((None, *x.shape[1:]), x.dtype)

    inputs = tuple(spec(x) for x in first.inputs)
    stream = tf.data.Dataset.from_generator(
        batches, output_signature=(inputs if len(inputs) > 1 else inputs[0], spec(first.labels))
    ).prefetch(2)
    done = 0

    def count(batch: int, logs: Any) -> None:
        nonlocal done
        done += 1
        progress(done, steps)

    callbacks = [tf_keras.callbacks.LambdaCallback(on_train_batch_end=count), tf_keras.callbacks.TerminateOnNaN()]
    try:
        history = model.fit(stream, epochs=options.epochs, verbose=0, callbacks=callbacks).history
    except tf.errors.OpError:
        # TensorFlow passes on what its generator raised as text alone.
        if refused:
            raise refused[0] from None
        raise
    if not np.isfinite(history["loss"]).all():
        raise BadInput(
            f"training on {data.name}: the loss became NaN; "
            f"lower learning_rate (now {options.learning_rate:g}) in the recipe"
        )
    return Trained(
        *_extract(model, graph, plan), {name: [float(v) for v in values] for name, values in history.items()}
    )


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


def _extract(model: Any, graph: KerasGraph, plan: Plan) -> tuple[KerasGraph, Plan]:
    """Weights and ranges of a trained model, as a graph and the plan that fits it."""
    wrappers = {layer.name.removeprefix(PREFIX): layer for layer in model.layers if layer.name.startswith(PREFIX)}
    updates = {}
    for op in graph.linear_ops():
        layer = wrappers[op.name].layer
        kind = LINEAR[op.type]
        kernel = next(w for w in wrappers[op.name].trainable_weights if f"/{kind.kernel}:" in f"/{w.name}")
        updates[op.name] = Weights(
            np.ascontiguousarray(kind.to_tflite(kernel.numpy())), layer.bias.numpy() if layer.use_bias else None
        )
    trained = graph.with_weights(updates)
    tensors = trained.tensors()
    moved = plan.with_activations(_trained_ranges(model, graph, plan))
    weights = {}
    for op in trained.linear_ops():
        planned, source = plan.weights[op.name], moved.activations.get(scale_source(tensors, op.input))
        if not planned.is_float:
            asked = Request(planned.bits, True, planned.granularity)
            weights[op.name] = weight_plan(op, asked, None if source is None else source.affine)
    return trained, moved.with_weights(weights)


def _trained_ranges(model: Any, graph: KerasGraph, plan: Plan) -> dict[str, TensorPlan]:
    fixed = {t.name for t in graph.tensors() if t.fixed is not None}
    found: dict[str, tuple[float, float]] = {}
    for layer in model.layers:
        limits = {
            w.name.split(":")[0].rsplit("_", 1)[-1]: float(w.numpy())
            for w in layer.non_trainable_weights
            if w.shape.rank == 0 and w.dtype.is_floating
        }
        name = layer.name.removeprefix(PREFIX).removesuffix("_quantize")
        if {"min", "max"} <= set(limits) and name in plan.activations and name not in fixed:
            found[name] = (limits["min"], limits["max"])
    for group in shared_scales(graph.tensors()):
        known = [found[name] for name in group if name in found]
        if known:
            union = (min(low for low, _ in known), max(high for _, high in known))
            found.update(dict.fromkeys(group, union))
    updates = {}
    for name, (low, high) in found.items():
        old = plan.activations[name]
        assert old.affine is not None
        affine = from_range(low, high, old.bits, symmetric=old.affine.symmetric)
        updates[name] = TensorPlan(old.bits, old.scheme, old.granularity, affine)
    return updates
