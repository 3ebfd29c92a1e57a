"""Side paths of the .tflite backend: a linear operator as two of its kind, a GATHER and an ADD."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from tfq_pipeline.graph.protocol import CHANNELS, MAIN, SIDE, SidePath
from tfq_pipeline.tflite import edit
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.operators import LINEAR


def with_side_path(model: Any, index: int, name: str, path: SidePath) -> dict[int, str]:
    """Takes the linear operator at an index apart, in place, see `Graph.with_side_paths`.

    Returns:
        Names of the tensors that were added, by index; as many operators were added.
    """
    graph, op = model.subgraphs[0], fb.op(model, index)
    at, schema = LINEAR[op.name], fb.schema()
    source, output = int(op.operator.inputs[at.input]), int(op.operator.outputs[0])
    main, side = (edit.add_tensor(model, op.outputs[0], f"{name}{end}", "FLOAT32") for end in (MAIN, SIDE))
    taken = edit.add_tensor(model, op.inputs[at.input], f"{name}{CHANNELS}", "FLOAT32")
    _set_channels(graph.tensors[taken], len(path.channels))
    indices = edit.add_constant(model, f"{name}{CHANNELS}_indices", "INT32", path.channels)

    gather = edit.operator(model, "GATHER", [source, indices], [taken])
    gather.builtinOptions, gather.builtinOptionsType = schema.GatherOptionsT(), schema.BuiltinOptions.GatherOptions
    gather.builtinOptions.axis = len(fb.shape(graph.tensors[taken])) - 1

    add = edit.operator(model, "ADD", [main, side], [output])
    add.builtinOptions, add.builtinOptionsType = schema.AddOptionsT(), schema.BuiltinOptions.AddOptions
    add.builtinOptions.potScaleInt16 = False
    add.builtinOptions.fusedActivationFunction = op.operator.builtinOptions.fusedActivationFunction
    op.operator.builtinOptions.fusedActivationFunction = 0

    kernel = edit.add_constant(model, f"{name}{SIDE}_weights", "FLOAT32", path.side.astype(np.float32))
    part = copy.deepcopy(op.operator)
    # Float convolutions too want a bias.
    bias = edit.add_constant(model, f"{name}{SIDE}_bias", "FLOAT32", np.zeros(len(path.side), np.float32))
    part.inputs = np.array([taken, kernel, bias], np.int32)
    part.outputs = np.array([side], np.int32)
    fb.set_array(model, edit.own_constant(model, op, at.weights, ""), "FLOAT32", path.main)
    op.operator.outputs = np.array([main], np.int32)
    graph.operators[index : index + 1] = [op.operator, gather, part, add]
    return {main: f"{name}{MAIN}", side: f"{name}{SIDE}", taken: f"{name}{CHANNELS}"}


def _set_channels(tensor: Any, count: int) -> None:
    tensor.shape = np.array([*fb.shape(tensor)[:-1], count], np.int32)
    if tensor.shapeSignature is not None and len(tensor.shapeSignature):
        tensor.shapeSignature = np.array([*tensor.shapeSignature[:-1], count], np.int32)
