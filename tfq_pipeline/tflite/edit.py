"""Edits of a ModelT that flatbuffer files need again and again: copies, tensors, operators, rewired readers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.operators import LINEAR


def copied(model: Any) -> Any:
    """A ModelT that can be edited without changing `model`; data of buffers is shared."""
    memo = {id(b.data): b.data for b in model.buffers if b.data is not None}
    return copy.deepcopy(model, memo)


def quantization(scale: np.ndarray, zero_point: np.ndarray, axis: int | None) -> Any:
    """QuantizationParametersT of one scale, or of one for each index of `axis`."""
    made = fb.schema().QuantizationParametersT()
    made.scale = np.ascontiguousarray(scale, np.float32)
    made.zeroPoint = np.ascontiguousarray(zero_point, np.int64)
    made.quantizedDimension = axis or 0
    return made


def add_tensor(model: Any, like: Any, name: str, kind: str, parameters: Any = None) -> int:
    """Adds a tensor with the shape of `like` and no data; returns its index."""
    graph, made = model.subgraphs[0], fb.schema().TensorT()
    made.name, made.shape, made.hasRank = name, like.shape, like.hasRank
    made.shapeSignature = like.shapeSignature
    made.type, made.quantization = getattr(fb.schema().TensorType, kind), parameters
    graph.tensors.append(made)
    return len(graph.tensors) - 1


def add_constant(model: Any, name: str, kind: str, values: np.ndarray) -> int:
    """Adds a constant tensor in a buffer of its own; returns its index."""
    graph, made = model.subgraphs[0], fb.schema().TensorT()
    made.name, made.shape, made.hasRank = name, np.array(values.shape, np.int32), True
    model.buffers.append(fb.schema().BufferT())
    made.buffer = len(model.buffers) - 1
    graph.tensors.append(made)
    fb.set_array(model, made, kind, values)
    return len(graph.tensors) - 1


def operator(model: Any, name: str, inputs: Sequence[int], outputs: Sequence[int], version: int = 1) -> Any:
    """An operator without options, not yet in the graph; its code is added where the model does not have it."""
    made = fb.schema().OperatorT()
    made.opcodeIndex = opcode(model, name, version)
    made.inputs, made.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    return made


def opcode(model: Any, name: str, version: int = 1) -> int:
    """Index of a builtin operator's code in at least this version."""
    schema = fb.schema()
    builtin = getattr(schema.BuiltinOperator, name)
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin and not code.customCode:
            code.version = max(code.version, version)
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def map_inputs(operator: Any, change: Callable[[int], int]) -> None:
    """Replaces the tensors that an operator reads; optional ones that are left out stay so."""
    operator.inputs = np.array([i if i < 0 else change(int(i)) for i in operator.inputs], np.int32)


def set_outputs(model: Any, outputs: Sequence[int]) -> None:
    """Other tensors as the main graph's outputs; signatures, which would not fit them, are dropped."""
    model.subgraphs[0].outputs = np.array(outputs, np.int32)
    model.signatureDefs = None


def move_ports(model: Any, inputs: Mapping[int, int], outputs: Mapping[int, int]) -> None:
    """Makes other tensors the main graph's inputs and outputs, in the graph and in its signatures."""
    graph = model.subgraphs[0]
    graph.inputs = np.array([inputs.get(int(i), int(i)) for i in graph.inputs], np.int32)
    graph.outputs = np.array([outputs.get(int(i), int(i)) for i in graph.outputs], np.int32)
    for signature in model.signatureDefs or []:
        if signature.subgraphIndex == 0:
            for entries, moved in ((signature.inputs, inputs), (signature.outputs, outputs)):
                for entry in entries:
                    entry.tensorIndex = moved.get(int(entry.tensorIndex), int(entry.tensorIndex))


def prune(model: Any) -> None:
    """Drops what nothing refers to: tensors of the main graph and the data of buffers; equal data is kept once."""
    graph = model.subgraphs[0]
    used = {int(i) for o in graph.operators for ids in (o.inputs, o.outputs, o.intermediates) for i in _list(ids)}
    used |= {int(i) for ids in (graph.inputs, graph.outputs) for i in ids} - {-1}
    for tensor in [graph.tensors[i] for i in used if i >= 0]:
        if isinstance(getattr(tensor.quantization, "details", None), fb.schema().BlockwiseQuantizationT):
            used.add(int(tensor.quantization.details.scales))
    kept = sorted(used - {-1})
    moved = {old: new for new, old in enumerate(kept)}
    graph.tensors = [graph.tensors[i] for i in kept]
    for operator in graph.operators:
        for name in ("inputs", "outputs", "intermediates"):
            if getattr(operator, name) is not None:
                ids = [moved.get(int(i), -1) for i in getattr(operator, name)]
                setattr(operator, name, np.array(ids, np.int32))
    graph.inputs = np.array([moved[int(i)] for i in graph.inputs], np.int32)
    graph.outputs = np.array([moved[int(i)] for i in graph.outputs], np.int32)
    for tensor in graph.tensors:
        if isinstance(getattr(tensor.quantization, "details", None), fb.schema().BlockwiseQuantizationT):
            tensor.quantization.details.scales = moved[int(tensor.quantization.details.scales)]
    for signature in model.signatureDefs or []:
        if signature.subgraphIndex == 0:
            for entry in [*signature.inputs, *signature.outputs]:
                entry.tensorIndex = moved[int(entry.tensorIndex)]
    _prune_buffers(model)


def _list(ids: Any) -> list[int]:
    return [] if ids is None else [int(i) for i in ids]


def _prune_buffers(model: Any) -> None:
    old, empty = model.buffers, fb.schema().BufferT()
    buffers, known = [empty], dict[bytes, int]()

    def place(index: int) -> int:
        data = old[index].data
        if data is None or len(data) == 0:
            return 0
        key = np.asarray(data, np.uint8).tobytes()
        if key not in known:
            known[key] = len(buffers)
            buffers.append(old[index])
        return known[key]

    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = place(tensor.buffer)
    for entry in model.metadata or []:
        entry.buffer = place(entry.buffer)
    model.buffers, model.metadataBuffer = buffers, None


def own_constant(model: Any, op: fb.Op, position: int, name: str) -> Any:
    """The constant tensor at a position of an operator, for the operator to change.

    It is made where there is none, with this name, and copied where another operator reads it too.
    """
    graph = model.subgraphs[0]
    inputs = [int(i) for i in op.operator.inputs]
    inputs += [-1] * (position + 1 - len(inputs))
    index = inputs[position]
    if index >= 0 and sum(index in map(int, o.inputs) for o in graph.operators if o.inputs is not None) == 1:
        return graph.tensors[index]
    made = fb.schema().TensorT()
    made.name, made.hasRank = name, True
    if index >= 0:
        made.name, made.shape = f"{fb.text(graph.tensors[index].name)}_{op.index}", graph.tensors[index].shape
    model.buffers.append(fb.schema().BufferT())
    made.buffer = len(model.buffers) - 1
    graph.tensors.append(made)
    inputs[position] = len(graph.tensors) - 1
    op.operator.inputs = np.array(inputs, np.int32)
    return made


def set_linear(model: Any, op: fb.Op, kernel: np.ndarray, bias: np.ndarray | None) -> None:
    """Gives a linear operator other float32 weights; it gains a bias where it had none and one is given, and keeps one
    of zeros where it had one and none is given: convolutions want it."""
    at = LINEAR[op.name]
    weights = own_constant(model, op, at.weights, "")
    fb.set_array(model, weights, "FLOAT32", kernel)
    had = at.bias < len(op.inputs) and op.inputs[at.bias] is not None
    if bias is None and had:
        bias = np.zeros(fb.shape(op.inputs[at.bias]), np.float32)
    if bias is not None:
        tensor = own_constant(model, op, at.bias, f"{fb.text(weights.name)}_bias")
        tensor.shape = np.array(bias.shape, np.int32)
        fb.set_array(model, tensor, "FLOAT32", bias)
