"""Writes a Plan into a float .tflite: types, scales, integers, and the conversions where integers meet floats.

An operator computes in integers unless the plan says that its layer computes in float. A tensor is stored as what the
operator that writes it gives; readers that want something else get it through a QUANTIZE or a DEQUANTIZE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tfq_pipeline.errors import BadInput, UnsupportedLayer
from tfq_pipeline.graph.tflite_graph import TfliteGraph, fused_activation
from tfq_pipeline.lowering.rewrite_weights import write_weights
from tfq_pipeline.lowering.zero_points import folded_zero_points, has_sums
from tfq_pipeline.numerics.affine import Affine, from_range, lowest_stored, quantize, spread, stored
from tfq_pipeline.plan import Plan
from tfq_pipeline.tflite import edit
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.operators import (
    BETWEEN,
    CLIPS,
    FIXED_SCALE_16,
    FIXED_SCALES,
    LINEAR,
    SCALES,
    TYPE_BLIND,
    Scale,
)

IoType = Literal["int8", "int16", "float32"]


def activation_type(affine: Affine) -> Literal["INT8", "INT16"]:
    """Type of the tensor that holds an activation."""
    return "INT8" if affine.bits <= 8 else "INT16"


def parameters(affine: Affine) -> Any:
    """Parameters of the tensor that holds an activation."""
    held = stored(affine)
    return edit.quantization(held.scale, held.zero_point, None)


def clip_below(model: Any, read: int, written: int, affine: Affine) -> Any:
    """The operator that takes integers of fewer than 8 bits up to the lowest of them."""
    lowest = np.array([lowest_stored(affine)], np.int8)
    limit = edit.add_constant(model, f"lowest_of_{written}", "INT8", lowest)
    model.subgraphs[0].tensors[limit].quantization = parameters(affine)
    return edit.operator(model, "MAXIMUM", [read, limit], [written], version=2)


# Activations that let nothing below 0 through.
_FROM_ZERO = frozenset({"RELU", "RELU6", "RELU_0_TO_1"})

# Limit of a fused activation, and what is left of it where no value comes near.
_LIMITS: Mapping[str, tuple[float, str]] = {"RELU6": (6.0, "RELU"), "RELU_N1_TO_1": (1.0, "NONE")}

# Kernels count the steps to a limit in 32 bits.
_MOST_STEPS = 2.0**30


def tensor_scales(graph: TfliteGraph, plan: Plan) -> dict[int, Affine]:
    """Scale and zero point of every tensor that is stored as integers somewhere, by index.

    The plan names tensors with a scale of their own. Operators that pass a scale on carry it further, in both
    directions: what a converter put between two tensors of one layer has the scale of that layer.
    """
    found = {
        index: planned.affine
        for index, name in graph.names.items()
        if (planned := plan.activations.get(name)) is not None and planned.affine is not None
    }
    bits = max((stored(affine).bits for affine in found.values()), default=8)
    for op in graph.ops:
        if found and not is_float(graph, plan, op):
            _carry_on(graph, op, found, bits)
    for op in reversed(graph.ops):
        if found and not is_float(graph, plan, op):
            _carry_back(graph, op, found)
    return found


def _carry_on(graph: TfliteGraph, op: fb.Op, found: dict[int, Affine], bits: int) -> None:
    scale = SCALES.get(op.name)
    reads = [i for i in map(int, op.operator.inputs) if i in graph.names]
    for output in map(int, op.operator.outputs):
        if output in found or output not in graph.names:
            continue
        if scale is Scale.PASSED_ON and reads and reads[0] in found:
            found[output] = spread(found[reads[0]]) if op.name in BETWEEN else found[reads[0]]
        elif scale is not None and scale in FIXED_SCALES:
            step, zero_point = FIXED_SCALES[scale] if bits == 8 else (FIXED_SCALE_16, 0)
            found[output] = Affine(
                bits, np.array([step], np.float32), np.array([zero_point], np.int32), None, zero_point == 0, False
            )


def _carry_back(graph: TfliteGraph, op: fb.Op, found: dict[int, Affine]) -> None:
    output = int(op.operator.outputs[0])
    shares = SCALES.get(op.name) in (Scale.PASSED_ON, Scale.JOINED) or op.name in CLIPS
    if output in found and shares:
        for index in map(int, op.operator.inputs):
            if index in graph.names:
                found.setdefault(index, found[output])


def constant_affine(op: fb.Op, values: np.ndarray, scales: Mapping[int, Affine]) -> Affine:
    """Parameters of a constant that an integer operator without weights reads: of its values, or the output's where
    the operator joins scales."""
    output = next(scales[i] for i in map(int, op.operator.outputs) if i in scales)
    if SCALES.get(op.name) in (Scale.PASSED_ON, Scale.JOINED):
        return output
    bits = stored(output).bits
    return from_range(values.min(), values.max(), bits, symmetric=bits == 16)


def is_float(graph: TfliteGraph, plan: Plan, op: fb.Op) -> bool:
    """Whether an operator reads and writes floats under a plan."""
    return graph.layer(op) in plan.floats or (op.name not in SCALES and not graph.is_linear(op))


def write_plan(graph: TfliteGraph, plan: Plan, inputs: IoType, outputs: IoType) -> tuple[Any, dict[int, str]]:
    """The quantized model, and the layer of each of its linear operators by operator index.

    Args:
        graph: float, folded.
        plan: by the names of `graph`.
        inputs, outputs: "float32", or the type that the plan has for them.

    Raises:
        BadInput: where a type at an end is not the plan's.
        UnsupportedLayer: for an integer operator that reads or writes a tensor without a scale.
    """
    writer = _Writer(edit.copied(graph.model), graph, plan, tensor_scales(graph, plan))
    writer.write(inputs, outputs)
    edit.prune(writer.model)
    layers = {i: name for i, (_, name) in enumerate(writer.operators) if name is not None}
    return writer.model, layers


@dataclass
class _Writer:
    """The file while it is written.

    Attributes:
        operators: in their new order, with the layer's name for linear ones.
        stored: tensors that are stored as integers, by index.
        converted: what a tensor became through QUANTIZE or DEQUANTIZE, by index and wanted parameters.
    """

    model: Any
    graph: TfliteGraph
    plan: Plan
    scales: Mapping[int, Affine]
    operators: list[tuple[Any, str | None]] = field(default_factory=list)
    stored: dict[int, Affine] = field(default_factory=dict)
    converted: dict[tuple[int, object], int] = field(default_factory=dict)

    def write(self, inputs: IoType, outputs: IoType) -> None:
        main = self.model.subgraphs[0]
        for index in map(int, main.inputs):
            if inputs != "float32" and index in self.scales:
                self._check_type(index, "inputs", inputs)
                self._store(index)
        for op in self.graph.ops:
            self._operator(fb.op(self.model, op.index))
        moved = {}
        for index in map(int, main.outputs):
            if index in self.graph.names:
                wanted = self.scales.get(index) if outputs != "float32" else None
                if wanted is not None:
                    self._check_type(index, "outputs", outputs)
                moved[index] = self._as(index, wanted)
        main.operators = [operator for operator, _ in self.operators]
        edit.move_ports(self.model, {}, moved)

    def _check_type(self, index: int, end: str, asked: IoType) -> None:
        planned = activation_type(self.scales[index]).lower()
        if planned != asked:
            raise BadInput(
                f"recipe: convert: {end}: '{self.graph.names[index]}' has {planned} in the plan, asked is {asked}; "
                f"write {planned} or float32"
            )

    def _operator(self, op: fb.Op) -> None:
        if is_float(self.graph, self.plan, op):
            if op.name not in TYPE_BLIND:
                edit.map_inputs(op.operator, lambda i: self._as(i, None))
        else:
            self._integer_operator(op)
        layer: str | None = self.graph.layer(op)
        # Linear operators in a layer that was left whole are no weights of the plan.
        if layer not in self.plan.weights or not self.graph.is_linear(self.graph.ops[op.index]):
            layer = None
        if layer is not None:
            at = LINEAR[op.name].input
            source = None if layer in self.plan.floats else self.scales[int(self._source(op, at))]
            target = None if source is None else self.scales[int(op.operator.outputs[0])]
            planned = self.plan.weights[layer]
            for before in write_weights(self.model, op, self._linear(layer), planned, source, target):
                self.operators.append((before, None))
        self.operators.append((op.operator, layer))
        self._clip_outputs(op)
        if layer is None:
            return
        planned = self.plan.weights[layer]
        if has_sums(planned):
            after = folded_zero_points(self.model, op, self._linear(layer), planned)
            self.operators += [(operator, None) for operator in after]
        elif planned.group_size is not None:
            self._unfuse_activation(op)

    def _clip_outputs(self, op: fb.Op) -> None:
        """Has tensors of fewer than 8 bits clipped below where what writes them does not."""
        passed = SCALES.get(op.name) in (Scale.PASSED_ON, Scale.JOINED)
        if passed or not _FROM_ZERO.isdisjoint((op.name, fused_activation(op))):
            return
        for position, index in enumerate(map(int, op.operator.outputs)):
            affine = self.stored.get(index)
            if affine is None or affine.bits >= 8 or self.graph.names[index] not in self.plan.activations:
                continue
            before = self._unclipped(index, affine)
            op.operator.outputs[position] = before
            self.operators.append((clip_below(self.model, before, index, affine), None))

    def _unclipped(self, index: int, affine: Affine) -> int:
        tensor = self.model.subgraphs[0].tensors[index]
        name = f"{fb.text(tensor.name)}_unclipped{len(self.operators)}"
        return edit.add_tensor(self.model, tensor, name, activation_type(affine), parameters(affine))

    def _unfuse_activation(self, op: fb.Op) -> None:
        """Makes a fused activation an operator of its own: LiteRT's kernel for groups leaves it out."""
        activation = fused_activation(op)
        if activation == "NONE":
            return
        (output,) = map(int, op.operator.outputs)
        name = f"{fb.text(op.outputs[0].name)}_before_{activation.lower()}"
        before = edit.add_tensor(self.model, op.outputs[0], name, "FLOAT32")
        op.operator.builtinOptions.fusedActivationFunction = 0
        op.operator.outputs = np.array([before], np.int32)
        self.operators.append((edit.operator(self.model, activation, [before], [output]), None))

    def _source(self, op: fb.Op, position: int) -> int:
        """The tensor that an operator read at a position before it was rewritten."""
        return int(self.graph.ops[op.index].operator.inputs[position])

    def _linear(self, layer: str) -> Any:
        return next(op for op in self.graph.linear_ops() if op.name == layer)

    def _integer_operator(self, op: fb.Op) -> None:
        outputs = [i for i in map(int, op.operator.outputs) if i in self.graph.names]
        for index in outputs:
            self._store(index)
            _drop_far_limit(op, self.scales[index])
        shares = outputs and SCALES.get(op.name) in (Scale.PASSED_ON, Scale.JOINED)
        linear = self.graph.is_linear(self.graph.ops[op.index])
        own = () if not linear else (LINEAR[op.name].weights, LINEAR[op.name].bias)
        for position, index in enumerate(map(int, op.operator.inputs)):
            if index < 0 or position in own:
                continue
            tensor = self.model.subgraphs[0].tensors[index]
            if index in self.graph.names:
                wanted = self.scales[outputs[0]] if shares else spread(self._scale(op, index))
                op.operator.inputs[position] = self._as(index, wanted)
            elif fb.type_name(tensor) == "FLOAT32" and fb.is_constant(self.model, tensor):
                self._constant(op, position)

    def _constant(self, op: fb.Op, position: int) -> None:
        values = fb.array(self.model, op.inputs[position])
        affine = constant_affine(op, values, self.scales)
        tensor = edit.own_constant(self.model, op, position, "")
        fb.set_array(self.model, tensor, activation_type(affine), quantize(values, stored(affine)))
        tensor.quantization = parameters(affine)

    def _scale(self, op: fb.Op, index: int) -> Affine:
        if index not in self.scales:
            raise UnsupportedLayer(
                self.graph.layer(op),
                op.name,
                f"the tensor '{self.graph.names[index]}' has no range in the plan",
                "calibrate the graph that is converted, or leave the layer float with a rule that skips it",
            )
        return self.scales[index]

    def _store(self, index: int) -> None:
        """Makes a tensor an integer one."""
        op = next((op for op in self.graph.ops if index in map(int, op.operator.outputs)), None)
        affine = self.scales[index] if op is None else self._scale(op, index)
        tensor = self.model.subgraphs[0].tensors[index]
        tensor.type = getattr(fb.schema().TensorType, activation_type(affine))
        tensor.quantization = parameters(affine)
        self.stored[index] = affine

    def _as(self, index: int, wanted: Affine | None) -> int:
        """The tensor with these parameters, None for floats; a conversion is added where nothing gave it before."""
        have = self.stored.get(index)
        if index not in self.graph.names or _same(have, wanted):
            return index
        key = (index, None if wanted is None else (wanted.bits, float(wanted.scale[0]), int(wanted.zero_point[0])))
        if key not in self.converted:
            tensor = self.model.subgraphs[0].tensors[index]
            kind = "FLOAT32" if wanted is None else activation_type(wanted)
            name = f"{fb.text(tensor.name)}_{'dequantized' if wanted is None else 'quantized'}{len(self.converted)}"
            made = edit.add_tensor(self.model, tensor, name, kind, None if wanted is None else parameters(wanted))
            if wanted is None:
                self.operators.append((edit.operator(self.model, "DEQUANTIZE", [index], [made]), None))
            else:
                clipped = wanted.bits < 8
                written = self._unclipped(made, wanted) if clipped else made
                self.operators.append((edit.operator(self.model, "QUANTIZE", [index], [written]), None))
                if clipped:
                    self.operators.append((clip_below(self.model, written, made, wanted), None))
            self.converted[key] = made
        return self.converted[key]


def _drop_far_limit(op: fb.Op, affine: Affine) -> None:
    """Takes the limit off a fused activation where it is so many steps away that kernels refuse to count them."""
    limit, left = _LIMITS.get(fused_activation(op), (0.0, ""))
    if limit / float(affine.scale[0]) > _MOST_STEPS:
        kind = getattr(fb.schema().ActivationFunctionType, left)
        op.operator.builtinOptions.fusedActivationFunction = kind


def _same(a: Affine | None, b: Affine | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.bits == b.bits and a.scale[0] == b.scale[0] and a.zero_point[0] == b.zero_point[0]
