"""The TFMOT scheme of a Plan: which quantizers each layer of a folded graph is wrapped with.

TFMOT's own schemes rewrite layer patterns and refuse what they do not know. Here the graph is already in the form
inference sees (batch norm folded, ReLU fused), every layer gets its config from the Plan, and the layout transform
has nothing left to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras import quantize_layer, quantize_wrapper

from tfq_pipeline.annotate.layout import layout
from tfq_pipeline.annotate.quantizers import (
    ActivationQuantizer,
    Techniques,
    WeightQuantizer,
    activation_quantizer,
    quantizer_config,
    quantizer_of,
    weight_quantizer,
)
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.functional import LayerSpec, TensorRef
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.keras_layers import LINEAR
from tfq_pipeline.graph.protocol import Weights
from tfq_pipeline.plan import FLOAT, Plan, TensorPlan

_keras = tfmot.quantization.keras

PREFIX = "quant_"

_FROZEN = Techniques()


@tf_keras.utils.register_keras_serializable(package="tfq")
class PlanConfig(_keras.QuantizeConfig):  # type: ignore[name-defined]
    """QuantizeConfig of one layer: a quantizer for its kernel and one for what it writes, either may be None."""

    def __init__(self, weight: WeightQuantizer | None, activation: ActivationQuantizer | None) -> None:
        self.weight, self.activation = weight, activation

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        return [] if self.weight is None else [(getattr(layer, LINEAR[type(layer).__name__].kernel), self.weight)]

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        if self.weight is not None:
            setattr(layer, LINEAR[type(layer).__name__].kernel, quantize_weights[0])

    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        """Fused activations stay as they are: the output quantizer comes after them."""
        del layer, quantize_activations

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        return [] if self.activation is None else [self.activation]

    def get_config(self) -> dict[str, Any]:
        return {"weight": quantizer_config(self.weight), "activation": quantizer_config(self.activation)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PlanConfig:
        return cls(quantizer_of(config["weight"]), quantizer_of(config["activation"]))


@tf_keras.utils.register_keras_serializable(package="tfq")
class QuantizedTensor(quantize_layer.QuantizeLayer):
    """Quantizes what it is given; it loads from files, which TFMOT's own layer does not where it has variables."""

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**tf_keras.layers.Layer.get_config(self), "quantizer": quantizer_config(self.quantizer)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> QuantizedTensor:
        return cls(**{**config, "quantizer": quantizer_of(config["quantizer"])})


# Files name the class, so it keeps that name.
class QuantizeWrapperV2(quantize_wrapper.QuantizeWrapperV2):
    """TFMOT's wrapper as it is read from files: with the layer's weights first, as where a built layer is wrapped."""

    def build(self, input_shape: Any) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True
        super().build(input_shape)


def load_trained(path: str | os.PathLike[str]) -> Any:
    """A fake-quantized model that a callback of a training saved, as `.keras` or `.h5`.

    Raises:
        BadInput: for a file that is missing or holds something else.
    """
    try:
        with _keras.quantize_scope(), tf_keras.utils.custom_object_scope({"QuantizeWrapperV2": QuantizeWrapperV2}):
            return tf_keras.models.load_model(path)
    except (OSError, ValueError, TypeError, KeyError) as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise BadInput(
            f"{os.fspath(path)}: is no trained model ({line}); give what a callback of a training saved"
        ) from error


class _Unchanged(_keras.QuantizeLayoutTransform):  # type: ignore[name-defined]
    """The graph is folded and fused before it is annotated."""

    def apply(self, model: Any, layer_quantize_map: Any) -> tuple[Any, Any]:
        return model, layer_quantize_map


class _AnnotatedOnly(_keras.QuantizeRegistry):  # type: ignore[name-defined]
    """Knows no layer by its class: each brings its config from the plan."""

    def supports(self, layer: Any) -> bool:
        return False

    def get_quantize_config(self, layer: Any) -> Any:
        raise ValueError(f"layer '{layer.name}' came without a config")


class PlanScheme(_keras.QuantizeScheme):  # type: ignore[name-defined]
    """Layout and registry that leave every decision to the plan."""

    def get_layout_transformer(self) -> Any:
        return _Unchanged()

    def get_quantize_registry(self) -> Any:
        return _AnnotatedOnly()


def annotate(graph: KerasGraph, plan: Plan, how: Techniques = _FROZEN, batch_size: int | None = None) -> Any:
    """A fake-quantized tf_keras model of a folded graph, made by TFMOT from the plan.

    Args:
        graph: without batch normalization.
        plan: weights and activations by layer.
        how: what the scales do in training.
        batch_size: batch dimension of the inputs, None to leave it free.

    Raises:
        BadInput: where batch norm is not folded, or the plan leaves a linear layer out.
    """
    if graph.batch_norms():
        raise BadInput(
            f"layer '{graph.batch_norms()[0]}' (BatchNormalization): not folded; "
            "put the pass fold_batch_norm before this one"
        )
    missing = [op.name for op in graph.linear_ops() if op.name not in plan.weights]
    if missing:
        raise BadInput(f"layer '{missing[0]}': the plan does not name it; make the plan from this model")

    net = graph.net
    # TFMOT wraps layers of one argument alone; what stays float needs no wrapper.
    bare = frozenset(plan.floats).difference(plan.weights)
    for ref in [*net.inputs, *(TensorRef(call.id) for call in net.calls if call.layer in bare)]:
        name = net.call(ref).layer
        quantizer = _activation(name, plan, how)
        if quantizer is not None:
            layer = QuantizedTensor(quantizer, name=f"{name}_quantize")
            net = net.with_call_after(ref, LayerSpec(layer.name, type(layer), layer.get_config(), ()))

    made: dict[str, Any] = {}

    def wrap(spec: LayerSpec) -> Any:
        made[spec.name] = layer = spec.make()
        unwrapped = spec.name in bare or isinstance(layer, QuantizedTensor)
        return layer if unwrapped else _annotated(layer, spec, plan, how)

    with _keras.quantize_scope():
        annotated = net.build(wrap, batch_size)
        for name, layer in made.items():
            if net.layers[name].weights:
                layer.set_weights(net.layers[name].weights)
        return _keras.quantize_apply(annotated, scheme=PlanScheme(), quantized_layer_name_prefix=PREFIX)


def _annotated(layer: Any, spec: LayerSpec, plan: Plan, how: Techniques) -> Any:
    config = PlanConfig(_weight(spec, plan.weights.get(spec.name), how), _activation(layer.name, plan, how))
    return _keras.quantize_annotate_layer(layer, config)


def _weight(spec: LayerSpec, planned: TensorPlan | None, how: Techniques) -> WeightQuantizer | None:
    if planned is None or planned.affine is None:
        return None
    kernel = spec.weights[0]
    lies = layout(spec.name, spec.cls.__name__, kernel.shape, planned)
    start = lies.from_plan(planned.affine.scale)
    return weight_quantizer(spec.name, planned.bits, kernel.reshape(lies.view), start, how)


def _activation(layer: str, plan: Plan, how: Techniques) -> ActivationQuantizer | None:
    planned = plan.activations.get(layer)
    return None if planned is None or planned.affine is None else activation_quantizer(layer, planned.affine, how)


def fake_quantized(graph: KerasGraph, plan: Plan) -> Callable[[Sequence[np.ndarray]], tuple[np.ndarray, ...]]:
    """The fake-quantized model as a function of one batch; outputs that TFLite fixes the scale of are given before
    that operator.

    Weights are those that the plan's integers stand for, whatever way they were chosen.
    """
    import tensorflow as tf

    held = graph.with_weights(
        {op.name: Weights(plan.weights[op.name].represented(op.kernel), op.bias) for op in graph.linear_ops()}
    )
    model = annotate(held.before_fixed_outputs(), replace(plan, weights=dict.fromkeys(plan.weights, FLOAT)))
    run = tf.function(
        lambda *x: model(x[0] if len(x) == 1 else list(x), training=False), reduce_retracing=True, autograph=False
    )

    def outputs(inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        return tuple(value.numpy() for value in tf.nest.flatten(run(*[tf.convert_to_tensor(x) for x in inputs])))

    return outputs
