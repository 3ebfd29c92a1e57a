"""Writes a Plan's weights into a converted file: the integers, scales and biases of every linear operator, per
channel, 2 to 8 bits.

The converter chooses 8-bit weights of its own and has no per-channel Dense below 8 bits. It gives the structure;
what is stored is what the plan says, to the last integer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfq_pipeline.errors import GateFailed
from tfq_pipeline.graph.protocol import LinearOp
from tfq_pipeline.numerics.affine import Affine, quantize
from tfq_pipeline.plan import Plan, TensorPlan
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.operators import LINEAR

_INT32_MAX = 2**31 - 1


def storage_type(bits: int) -> str:
    """TFLite type that holds weights of so many bits."""
    return "INT4" if bits <= 4 else "INT8"


def match_layers(model: Any, linear: Iterable[LinearOp], prefix: str) -> dict[int, str]:
    """Which layer each linear operator of the file came from, by operator index.

    The converter names tensors after the layer's scope. Where it merged names, the weights decide: a layer's own lie
    nearest.

    Args:
        model: ModelT as converted.
        linear: operators of the graph that was converted.
        prefix: what was put before each layer's name.

    Raises:
        GateFailed: for an operator that no layer fits, or a layer that no operator stands for.
    """
    candidates = list(linear)
    found: dict[int, str] = {}
    for op in fb.ops(model):
        if op.name not in LINEAR:
            continue
        position = LINEAR[op.name].weights
        weights = op.inputs[position]
        if not fb.is_constant(model, weights):
            continue
        named = {
            part
            for tensor in (weights, *op.outputs)
            for path in fb.text(tensor.name).split(";")
            for part in path.split("/")
        }
        values = _real(model, weights)
        fitting = [layer for layer in candidates if layer.op == op.name and layer.kernel.shape == values.shape]
        by_name = [layer for layer in fitting if prefix + layer.name in named]
        pool = by_name or fitting
        if not pool:
            raise GateFailed(
                f"operator {op.index} ({op.name}): no layer has weights of shape {values.shape}; "
                "the converter changed the model in an unknown way: please report it with the model's summary"
            )
        found[op.index] = min(pool, key=lambda layer: float(np.abs(layer.kernel - values).sum())).name
    missing = [layer for layer in candidates if layer.name not in found.values()]
    if missing:
        raise GateFailed(
            f"layer '{missing[0].name}' ({missing[0].type}): has no operator in the converted file; is its output used?"
        )
    return found


def rewrite_weights(model: Any, linear: Iterable[LinearOp], plan: Plan, layers: Mapping[int, str]) -> None:
    """Stores the plan's integers, scales and the biases that belong to them, in place.

    Args:
        model: ModelT as converted.
        linear: operators of the graph, with float weights and biases.
        plan: weights by layer; layers planned as float stay as they are.
        layers: layer of each linear operator, from `match_layers`.
    """
    by_name = {op.name: op for op in linear}
    for op in list(fb.ops(model)):
        if op.index not in layers:
            continue
        layer = by_name[layers[op.index]]
        planned = plan.weights[layer.name]
        at = LINEAR[op.name]
        if planned.is_float or planned.affine is None:
            continue
        affine = planned.affine
        weights = op.inputs[at.weights]
        fb.set_array(model, weights, storage_type(planned.bits), integers(layer, planned))
        _set_scales(weights, affine.scale, at.channel_axis)
        if at.bias < len(op.inputs) and op.inputs[at.bias] is not None:
            bias = _own_tensor(model, op, at.bias)
            scale = bias_scale(float(fb.scales(op.inputs[at.input])[0]), affine)
            fb.set_array(model, bias, "INT32", quantized_bias(layer.bias, scale, layer.channels))
            _set_scales(
                bias, np.broadcast_to(scale, layer.channels if affine.axis is not None else 1).astype(np.float32), 0
            )


def integers(layer: LinearOp, planned: TensorPlan) -> np.ndarray:
    """The integers of a layer's weights: the plan's own where a pass chose them, else those nearest."""
    if planned.affine is None:
        raise ValueError(f"layer '{layer.name}' is planned as {planned.scheme}")
    return planned.values if planned.values is not None else quantize(layer.kernel, planned.affine)


def bias_scale(input_scale: float, weights: Affine) -> np.ndarray:
    """Scale of an int32 bias: input scale times weight scale, in float64."""
    return input_scale * weights.scale.astype(np.float64)


def quantized_bias(bias: np.ndarray | None, scale: np.ndarray, channels: int) -> np.ndarray:
    """int32 [channels], saturated; 0 where the layer has no bias."""
    real = np.zeros(channels) if bias is None else bias.astype(np.float64)
    steps = real / scale
    return np.clip(np.trunc(steps + np.copysign(0.5, steps)), -_INT32_MAX, _INT32_MAX).astype(np.int32)


def _real(model: Any, tensor: Any) -> np.ndarray:
    values = fb.array(model, tensor).astype(np.float32)
    scale = fb.scales(tensor)
    if scale.size == 0:
        return values
    along = [1] * values.ndim
    if scale.size > 1:
        along[tensor.quantization.quantizedDimension] = scale.size
    real: np.ndarray = values * scale.reshape(along)
    return real


def _set_scales(tensor: Any, scale: np.ndarray, axis: int) -> None:
    quantization = fb.schema().QuantizationParametersT()
    quantization.scale = np.ascontiguousarray(scale, np.float32)
    quantization.zeroPoint = np.zeros(len(scale), np.int64)
    quantization.quantizedDimension = axis if len(scale) > 1 else 0
    tensor.quantization = quantization


def _own_tensor(model: Any, op: fb.Op, position: int) -> Any:
    """The tensor at a position of an operator, copied first where another operator reads it too.

    A shared layer has one bias but a scale for each input it is called on.
    """
    graph = model.subgraphs[0]
    index = int(op.operator.inputs[position])
    readers = sum(index in [int(i) for i in o.inputs] for o in graph.operators if o.inputs is not None)
    tensor = graph.tensors[index]
    if readers == 1:
        return tensor
    schema = fb.schema()
    copy = schema.TensorT()
    copy.name, copy.shape, copy.hasRank = f"{fb.text(tensor.name)}_{op.index}", tensor.shape, tensor.hasRank
    model.buffers.append(schema.BufferT())
    copy.buffer = len(model.buffers) - 1
    graph.tensors.append(copy)
    inputs = [int(i) for i in op.operator.inputs]
    inputs[position] = len(graph.tensors) - 1
    op.operator.inputs = np.array(inputs, np.int32)
    return copy
