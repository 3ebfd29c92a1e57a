"""Folds of the .tflite backend: what converters leave of batch norm, and constants that are decoded at run time."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfq_pipeline.tflite import edit
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.operators import LINEAR


def with_float_constants(model: Any) -> Any:
    """The model with constants behind a DEQUANTIZE of half precision as float32 constants."""
    decoded = [
        op
        for op in fb.ops(model)
        if op.name == "DEQUANTIZE" and fb.type_name(op.inputs[0]) == "FLOAT16" and fb.is_constant(model, op.inputs[0])
    ]
    if not decoded:
        return model
    model = edit.copied(model)
    graph = model.subgraphs[0]
    moved = {}
    for op in decoded:
        values = fb.array(model, op.inputs[0]).astype(np.float32)
        moved[int(op.operator.outputs[0])] = edit.add_constant(model, fb.text(op.outputs[0].name), "FLOAT32", values)
    gone = {op.index for op in decoded}
    graph.operators = [o for i, o in enumerate(graph.operators) if i not in gone]
    for operator in graph.operators:
        edit.map_inputs(operator, lambda i: moved.get(i, i))
    return model


def fold_channel_affine(model: Any) -> Any:
    """The model with MUL, ADD and SUB by a constant per channel folded into the linear operator before, where that has
    no activation and no other reader; a MUL and an ADD in a row elsewhere, on four dimensions, become a 1x1 depthwise
    convolution."""
    model = edit.copied(model)
    while _fold_one_backward(model) or _fold_one_pair(model):
        pass
    return model


def _fold_one_backward(model: Any) -> bool:
    graph = model.subgraphs[0]
    ops = list(fb.ops(model))
    makers = {int(i): op for op in ops for i in op.operator.outputs}
    for op in ops:
        constant = _channel_constant(model, op)
        if constant is None:
            continue
        position, values = constant
        source = int(op.operator.inputs[1 - position])
        maker = makers.get(source)
        if maker is None or not _can_take(model, maker, source):
            continue
        scale, shift = _as_affine(op.name, position, values)
        at = LINEAR[maker.name]
        kernel = fb.array(model, maker.inputs[at.weights]).astype(np.float64)
        bias = maker.inputs[at.bias] if at.bias < len(maker.inputs) else None
        old = 0.0 if bias is None else fb.array(model, bias).astype(np.float64)
        along = [1] * kernel.ndim
        along[at.channel_axis] = -1
        channels = kernel.shape[at.channel_axis]
        scale, shift = np.broadcast_to(scale, channels), np.broadcast_to(shift, channels)
        edit.set_linear(model, maker, kernel * scale.reshape(along), old * scale + shift)
        maker.operator.builtinOptions.fusedActivationFunction = op.operator.builtinOptions.fusedActivationFunction
        maker.operator.outputs = op.operator.outputs
        graph.operators.pop(op.index)
        return True
    return False


def _fold_one_pair(model: Any) -> bool:
    """Turns the first MUL whose result only an ADD or SUB reads, both by constants per channel, into a depthwise
    convolution."""
    graph = model.subgraphs[0]
    ops = list(fb.ops(model))
    for first in ops:
        if first.name != "MUL" or (constant := _channel_constant(model, first)) is None:
            continue
        readers = _readers(model, int(first.operator.outputs[0]))
        source = int(first.operator.inputs[1 - constant[0]])
        channels = fb.shape(graph.tensors[source])[-1:]
        if len(readers) != 1 or len(fb.shape(graph.tensors[source])) != 4 or _activation(first):
            continue
        second = ops[readers[0]]
        added = _channel_constant(model, second)
        if added is None or second.name == "MUL":
            continue
        scale, _ = _as_affine("MUL", *constant)
        sign, shift = _as_affine(second.name, *added)
        options = fb.schema().DepthwiseConv2DOptionsT()
        options.padding, options.strideW, options.strideH, options.depthMultiplier = 1, 1, 1, 1
        options.dilationWFactor = options.dilationHFactor = 1
        options.fusedActivationFunction = _activation(second)
        kernel = np.broadcast_to(scale * sign, channels).astype(np.float32).reshape(1, 1, 1, -1)
        name = fb.text(second.outputs[0].name)
        weights = edit.add_constant(model, name, "FLOAT32", kernel)
        bias = edit.add_constant(model, name, "FLOAT32", np.broadcast_to(shift, channels).astype(np.float32))
        made = edit.operator(model, "DEPTHWISE_CONV_2D", [source, weights, bias], list(second.operator.outputs))
        made.builtinOptions = options
        made.builtinOptionsType = fb.schema().BuiltinOptions.DepthwiseConv2DOptions
        graph.operators[second.index] = made
        graph.operators.pop(first.index)
        return True
    return False


def _channel_constant(model: Any, op: fb.Op) -> tuple[int, np.ndarray] | None:
    """Position and float64 values, [1] or [channels], of the constant operand of a MUL, ADD or SUB, if that is all it
    is."""
    if op.name not in ("ADD", "MUL", "SUB"):
        return None
    for position, tensor in enumerate(op.inputs):
        if fb.type_name(tensor) == "FLOAT32" and fb.is_constant(model, tensor):
            shape, other = fb.shape(tensor), fb.shape(op.inputs[1 - position])
            size = int(np.prod(shape))
            if len(shape) <= len(other) and size in (1, (*shape, 1)[-1 if not shape else len(shape) - 1]):
                return position, fb.array(model, tensor).astype(np.float64).reshape(-1)
    return None


def _as_affine(name: str, position: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(scale, shift) of `name` with a constant operand at `position`: result = scale * x + shift."""
    one = np.ones_like(values)
    if name == "MUL":
        return values, 0 * one
    if name == "ADD":
        return one, values
    return (one, -values) if position == 1 else (-one, values)


def _can_take(model: Any, maker: fb.Op, tensor: int) -> bool:
    if maker.name not in LINEAR or _activation(maker) or len(_readers(model, tensor)) != 1:
        return False
    weights = maker.inputs[LINEAR[maker.name].weights]
    is_output = tensor in [int(i) for i in model.subgraphs[0].outputs]
    return not is_output and fb.type_name(weights) == "FLOAT32" and fb.is_constant(model, weights)


def _readers(model: Any, tensor: int) -> list[int]:
    """Operators that read a tensor; a model output counts as one more."""
    graph = model.subgraphs[0]
    found = [i for i, o in enumerate(graph.operators) if tensor in [int(j) for j in o.inputs]]
    return found + [-1] * (tensor in [int(i) for i in graph.outputs])


def _activation(op: fb.Op) -> int:
    return int(getattr(op.operator.builtinOptions, "fusedActivationFunction", 0))
