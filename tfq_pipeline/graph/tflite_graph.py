"""The .tflite backend of `Graph`: the main graph of a float file.

A tensor and the operator that writes it have one name: the tensor's first in the file, made unique.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tfq_pipeline.data import Data, InputSpec
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.protocol import LinearOp, Padding, SidePath, Tensor, Weights
from tfq_pipeline.graph.tflite_fold import fold_channel_affine, with_float_constants
from tfq_pipeline.graph.tflite_side_path import with_side_path
from tfq_pipeline.tflite import edit
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.inspect import unfolded_batch_norms
from tfq_pipeline.tflite.interpreter import TfliteModel, open_model
from tfq_pipeline.tflite.operators import FIXED_SCALES, LINEAR, SCALES, Scale

# Fused activations that integer kernels have, by the schema's name.
_FUSED = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6")


class TfliteGraph:
    """See `tfq_pipeline.graph.protocol.Graph`.

    Attributes:
        model: ModelT, not to be changed.
        names: name of each float tensor that is no constant, by index.
        layers: name of each operator, by index; where it has none, that of the first tensor it writes.
    """

    def __init__(
        self, model: Any, names: Mapping[int, str] | None = None, layers: Mapping[int, str] | None = None
    ) -> None:
        self.model = model
        self.names = _unique_names(model) if names is None else names
        self.layers = layers or {}

    @classmethod
    def read(cls, source: str | os.PathLike[str] | bytes) -> TfliteGraph:
        """Takes a float file; constants in half precision become float32.

        Raises:
            BadInput: for a missing or damaged file, or one that is quantized already.
        """
        model = with_float_constants(fb.read(source))
        for op in fb.ops(model):
            quantized = [t for t in (*op.inputs, *op.outputs) if t is not None and fb.scales(t).size]
            if quantized:
                name = "the model" if isinstance(source, bytes) else os.fspath(source)
                raise BadInput(
                    f"{name}: quantized already (operator {op.index}, {op.name}, has {fb.type_name(quantized[0])} "
                    "tensors with a scale); give the float model"
                )
        return cls(model)

    @cached_property
    def data(self) -> bytes:
        """The file, without what nothing in it refers to."""
        model = edit.copied(self.model)
        edit.prune(model)
        return fb.pack(model)

    @cached_property
    def ops(self) -> tuple[fb.Op, ...]:
        return tuple(fb.ops(self.model))

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        graph, ports = self.model.subgraphs[0], fb.port_names(self.model)
        types = {i: fb.type_name(graph.tensors[i]).lower() for i in map(int, graph.inputs)}
        return tuple(
            InputSpec(self.names.get(i, ports[i]), _free_shape(graph.tensors[i])[1:], types[i])
            for i in map(int, graph.inputs)
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        ports = fb.port_names(self.model)
        return tuple(self.names.get(i, ports[i]) for i in map(int, self.model.subgraphs[0].outputs))

    def linear_ops(self) -> tuple[LinearOp, ...]:
        return tuple(self._linear_op(op) for op in self.ops if self.is_linear(op))

    def is_linear(self, op: fb.Op) -> bool:
        """Whether an operator has constant float weights."""
        if op.name not in LINEAR:
            return False
        weights = op.inputs[LINEAR[op.name].weights]
        return fb.type_name(weights) == "FLOAT32" and fb.is_constant(self.model, weights)

    def layer(self, op: fb.Op) -> str:
        return self.layers.get(op.index) or self.names.get(int(op.operator.outputs[0]), fb.text(op.outputs[0].name))

    def _linear_op(self, op: fb.Op) -> LinearOp:
        at = LINEAR[op.name]
        bias = op.inputs[at.bias] if at.bias < len(op.inputs) else None
        return LinearOp(
            self.layer(op),
            op.name,
            op.name,
            fb.array(self.model, op.inputs[at.weights]),
            None if bias is None else fb.array(self.model, bias),
            at.channel_axis,
            self.names[int(op.operator.inputs[at.input])],
            self.names[int(op.operator.outputs[0])],
            **_window(op),
        )

    def tensors(self) -> tuple[Tensor, ...]:
        graph = self.model.subgraphs[0]
        found = [
            Tensor(self.names[i], "INPUT", _free_shape(graph.tensors[i])[1:])
            for i in map(int, graph.inputs)
            if i in self.names
        ]
        for op in self.ops:
            found += self._written(op)
        return tuple(found)

    def _written(self, op: fb.Op) -> Iterator[Tensor]:
        reads = tuple(dict.fromkeys(self.names[int(i)] for i in op.operator.inputs if int(i) in self.names))
        scale = Scale.OWN if self.is_linear(op) else SCALES.get(op.name)
        for index, tensor in zip(map(int, op.operator.outputs), op.outputs, strict=True):
            if index not in self.names:
                continue
            yield Tensor(
                self.names[index],
                op.name,
                _free_shape(tensor)[1:],
                reads,
                reads[0] if scale is Scale.PASSED_ON and reads else None,
                reads if scale is Scale.JOINED else (),
                FIXED_SCALES.get(scale) if scale is not None else None,
                self._float_only(op),
                op.name,
                _activation(op),
            )

    def _float_only(self, op: fb.Op) -> str | None:
        if op.name not in SCALES and not self.is_linear(op):
            return "its weights are computed" if op.name in LINEAR else "has no integer operator"
        fused = fused_activation(op)
        return None if fused in _FUSED else f"has no integer operator with {fused} fused into it"

    def batch_norms(self) -> tuple[str, ...]:
        return tuple(self.layer(op) for op in unfolded_batch_norms(self.model))

    def fold_batch_norm(self) -> TfliteGraph:
        """Folds what the converter left: MUL and ADD by a constant per channel into the linear operator before it, a
        pair of them elsewhere into a 1x1 depthwise convolution."""
        return TfliteGraph(fold_channel_affine(self.model))

    def with_weights(self, updates: Mapping[str, Weights]) -> TfliteGraph:
        model = edit.copied(self.model)
        for op in self.ops:
            if self.is_linear(op) and self.layer(op) in updates:
                new = updates[self.layer(op)]
                edit.set_linear(model, fb.op(model, op.index), new.kernel, new.bias)
        return TfliteGraph(model, self.names, self.layers)

    def with_side_paths(self, paths: Mapping[str, SidePath]) -> TfliteGraph:
        model, names, layers = edit.copied(self.model), dict(self.names), dict(self.layers)
        # From the last on, so that the indices of those before stay.
        for op in reversed(self.ops):
            if self.is_linear(op) and self.layer(op) in paths:
                made = with_side_path(model, op.index, self.layer(op), paths[self.layer(op)])
                names.update(made)
                added = len(made)
                layers = {i if i <= op.index else i + added: layer for i, layer in layers.items()}
                layers.pop(op.index, None)
        return TfliteGraph(model, names, layers)

    def capture(self, names: Sequence[str], data: Data) -> Iterator[dict[str, np.ndarray]]:
        """Streams tensors; those wanted become outputs of the model that runs, so that nothing else is kept."""
        wanted = {index: name for index, name in self.names.items() if name in set(names)}
        model = edit.copied(self.model)
        edit.set_outputs(model, list(wanted))
        runner = open_model(fb.pack(model), threads=len(os.sched_getaffinity(0)))
        for batch in data:
            yield _by_name(tuple(wanted.values()), runner.run(batch.inputs))

    def run(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        return self._runner.run(inputs)

    @cached_property
    def _runner(self) -> TfliteModel:
        return open_model(self.data)


def _by_name(names: Sequence[str], values: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors by name; those of one name, of a layer that is called several times, one after the other."""
    if len(set(names)) == len(names):
        return dict(zip(names, values, strict=True))
    found: dict[str, list[np.ndarray]] = {}
    for name, value in zip(names, values, strict=True):
        found.setdefault(name, []).append(value)
    return {name: np.concatenate(arrays) for name, arrays in found.items()}


def _unique_names(model: Any) -> dict[int, str]:
    """Names of inputs and outputs as the first signature has them; the others as the file has them."""
    graph = model.subgraphs[0]
    ports = fb.port_names(model)
    written = [*map(int, graph.inputs), *(int(i) for o in graph.operators for i in o.outputs)]
    found: dict[int, str] = {}
    taken: set[str] = set()
    for index in dict.fromkeys(written):
        tensor = graph.tensors[index]
        if fb.type_name(tensor) != "FLOAT32":
            continue
        # The converter joins with ';' what it fused; the operator that writes the result stands first.
        name = ports.get(index) or fb.text(tensor.name).split(";")[0] or f"tensor_{index}"
        found[index] = name if name not in taken else f"{name}#{index}"
        taken.add(found[index])
    return found


def _free_shape(tensor: Any) -> tuple[int | None, ...]:
    signature = tensor.shapeSignature
    shape = fb.shape(tensor)
    if signature is None or len(signature) != len(shape):
        return shape
    return tuple(None if s < 0 else n for n, s in zip(shape, signature, strict=True))


def _window(op: fb.Op) -> dict[str, Any]:
    """Activation, strides, dilations and padding of a linear operator as `LinearOp` has them."""
    options = op.operator.builtinOptions
    padding: Padding = "SAME" if getattr(options, "padding", 1) == 0 else "VALID"
    return {
        "activation": _activation(op),
        "strides": (getattr(options, "strideH", 1), getattr(options, "strideW", 1)),
        "dilations": (getattr(options, "dilationHFactor", 1), getattr(options, "dilationWFactor", 1)),
        "padding": padding,
    }


def _activation(op: fb.Op) -> str | None:
    return None if (fused := fused_activation(op)) == "NONE" else fused


def fused_activation(op: fb.Op) -> str:
    """The activation that an operator applies to its result, by the schema's name; "NONE" where it has none."""
    value = getattr(op.operator.builtinOptions, "fusedActivationFunction", 0)
    return next(k for k, v in vars(fb.schema().ActivationFunctionType).items() if v == value and k.isupper())
