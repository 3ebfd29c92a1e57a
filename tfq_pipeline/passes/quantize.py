"""Uniform quantization (Jacob et al. 2018): turns ranges and a request for each layer into a Plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.protocol import Graph, LinearOp, Tensor
from tfq_pipeline.numerics.affine import Affine, from_range, weight_range
from tfq_pipeline.passes.calibrate import Calibration, scale_source
from tfq_pipeline.plan import FLOAT, Granularity, Plan, TensorPlan

# Leaves a bias of int32 one bit of room for the sum it is added to.
_LARGEST_BIAS = 2.0**30


@dataclass(frozen=True)
class Request:
    """What a recipe asks of one tensor: bits, whether zero point 0 is forced, and what one scale covers."""

    bits: int
    symmetric: bool
    granularity: Granularity = "tensor"


@dataclass(frozen=True)
class LayerRequest:
    """What a recipe asks of one layer; `weights` None leaves the layer float, and so its output."""

    weights: Request | None
    activations: Request | None


def quantize(graph: Graph, calibration: Calibration, request: Callable[[str, str, str | None], LayerRequest]) -> Plan:
    """The plan for a folded graph.

    Args:
        graph: without batch normalization.
        calibration: ranges by tensor.
        request: given layer name, layer type and TFLite op (None for layers without weights), says what the recipe
            asks.

    Raises:
        BadInput: for batch norm that is not folded, weights with NaN or infinity, or tensors without a range.
    """
    if graph.batch_norms():
        raise BadInput(
            f"layer '{graph.batch_norms()[0]}' (BatchNormalization): not folded; "
            "put fold_batch_norm before quantize in the recipe"
        )
    linear = {op.name: op for op in graph.linear_ops()}
    weights: dict[str, TensorPlan] = {}
    activations: dict[str, TensorPlan] = {}
    reasons: dict[str, str] = {}
    tensors = graph.tensors()
    for tensor in tensors:
        op = linear.get(tensor.name)
        asked = request(tensor.name, tensor.type, op.op if op else None)
        if op is not None:
            source = scale_source(tensors, op.input)
            scale = activations[source].affine if source in activations else None
            weights[op.name] = FLOAT if asked.weights is None else weight_plan(op, asked.weights, scale)
        if asked.activations is None:
            reasons[tensor.name] = "the recipe skips it"
        elif tensor.same_scale_as is None:
            activations[tensor.name] = activation_plan(tensor, calibration, asked.activations)
    return Plan(weights, activations, reasons)


def weight_plan(op: LinearOp, asked: Request, source: Affine | None) -> TensorPlan:
    """Symmetric narrow-range weights with the range of their values, as TFLite's int8 specification has them.

    A channel of nearly dead weights with a large bias gets a scale at which its bias still fits in int32.

    Args:
        op: the layer.
        asked: bits and granularity.
        source: parameters of the activation it reads, None where that is float.
    """
    axis = op.channel_axis if asked.granularity == "channel" else None
    try:
        low, high = weight_range(op.kernel, axis)
        affine = from_range(low, high, asked.bits, symmetric=True, narrow=True, axis=axis)
    except ValueError as error:
        raise BadInput(f"layer '{op.name}' ({op.type}): weights: {error}; train or export the model again") from error
    if source is not None and op.bias is not None:
        if not np.isfinite(op.bias).all():
            raise BadInput(
                f"layer '{op.name}' ({op.type}): its bias has NaN or infinity; train or export the model again"
            )
        largest = np.abs(op.bias) if axis is not None else np.abs(op.bias).max()
        least = (largest / (float(source.scale[0]) * _LARGEST_BIAS)).astype(np.float32)
        affine = replace(affine, scale=np.maximum(affine.scale, least))
    return TensorPlan(asked.bits, "uniform", asked.granularity, affine)


def activation_plan(tensor: Tensor, calibration: Calibration, asked: Request) -> TensorPlan:
    """Range to scale and zero point; where TFLite fixes them, those."""
    if tensor.fixed is not None and asked.bits == 8:
        scale, zero_point = tensor.fixed
        affine = Affine(
            8, np.array([scale], np.float32), np.array([zero_point], np.int32), None, zero_point == 0, False
        )
        return TensorPlan(8, "uniform", "tensor", affine)
    if tensor.name not in calibration.ranges:
        raise BadInput(
            f"layer '{tensor.name}' ({tensor.type}): has no range; put calibrate before quantize in the recipe"
        )
    low, high = calibration.ranges[tensor.name]
    affine = from_range(low, high, asked.bits, symmetric=asked.symmetric)
    return TensorPlan(asked.bits, "uniform", "tensor", affine)
