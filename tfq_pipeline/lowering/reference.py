"""The fake-quantized model of a plan: what a lowered file is compared with, computed in float by other code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Graph, Weights
from tfq_pipeline.graph.tflite_graph import TfliteGraph
from tfq_pipeline.lowering.integer import (
    activation_type,
    clip_below,
    constant_affine,
    is_float,
    parameters,
    tensor_scales,
)
from tfq_pipeline.numerics.affine import Affine, fake_quantize, spread
from tfq_pipeline.passes.calibrate import scale_source
from tfq_pipeline.plan import FLOAT, Plan, TensorPlan
from tfq_pipeline.tflite import edit
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.interpreter import open_model
from tfq_pipeline.tflite.operators import FIXED_SCALES, LINEAR, SCALES

Outputs = Callable[[Sequence[np.ndarray]], tuple[np.ndarray, ...]]


def fake_quantized(graph: Graph, plan: Plan) -> Outputs:
    """The fake-quantized model as a function of one batch; outputs that TFLite fixes the scale of are given before
    that operator.

    A Keras graph is computed by TensorFlow's fake quantization, a .tflite by stock float kernels between QUANTIZE and
    DEQUANTIZE. Weights are the plan's integers, as reals.
    """
    known = {name: planned for name, planned in plan.weights.items() if not planned.is_float}
    graph = graph.with_weights(
        {
            op.name: Weights(known[op.name].represented(op.kernel), op.bias)
            for op in graph.linear_ops()
            if op.name in known
        }
    )
    if isinstance(graph, KerasGraph):
        from tfq_pipeline.annotate.scheme import fake_quantized as by_keras

        plan = plan.with_weights(dict.fromkeys(plan.weights, FLOAT))
        return by_keras(graph, plan.with_activations(_passed_on(graph, plan)))
    assert isinstance(graph, TfliteGraph)
    return open_model(fb.pack(_with_pairs(graph, plan)), default_delegates=False).run


def _passed_on(graph: Graph, plan: Plan) -> dict[str, TensorPlan]:
    """Tensors that have the scale of another: what an integer operator writes, a mean over a window say, is rounded to
    it."""
    tensors = graph.tensors()
    sources = {t.name: scale_source(tensors, t.name) for t in tensors if t.same_scale_as is not None}
    return {
        name: _with_values_between(plan.activations[source])
        for name, source in sources.items()
        if source in plan.activations and name not in plan.floats
    }


def _with_values_between(planned: TensorPlan) -> TensorPlan:
    """The grid on which an operator that writes values between those that it reads rounds; that of all others holds
    theirs too."""
    if planned.affine is None:
        return planned
    affine = spread(planned.affine)
    return replace(planned, bits=affine.bits, affine=affine)


def float_activations(graph: Graph, plan: Plan) -> Outputs:
    """The model with the plan's weights whose activations are not rounded, as a function of one batch; outputs as those
    of `fake_quantized`."""
    floats = frozenset(tensor.name for tensor in graph.tensors())
    return fake_quantized(graph, replace(plan, activations={}, floats=floats))


def _with_pairs(graph: TfliteGraph, plan: Plan) -> Any:
    """The float model with a QUANTIZE and a DEQUANTIZE where the lowered file stores integers."""
    model = edit.copied(graph.model)
    scales = tensor_scales(graph, plan)
    makers = {int(i): op for op in graph.ops for i in op.operator.outputs}
    operators: list[Any] = []
    paired: dict[int, int] = {}

    def pair(index: int, affine: Affine) -> int:
        if index not in paired:
            like = model.subgraphs[0].tensors[index]
            kind, held = activation_type(affine), parameters(affine)
            integer = edit.add_tensor(model, like, f"q{index}", kind, held)
            real = edit.add_tensor(model, like, f"dq{index}", "FLOAT32")
            operators.append(edit.operator(model, "QUANTIZE", [index], [integer]))
            if affine.bits < 8:
                clipped = edit.add_tensor(model, like, f"c{index}", kind, held)
                operators.append(clip_below(model, integer, clipped, affine))
                integer = clipped
            operators.append(edit.operator(model, "DEQUANTIZE", [integer], [real]))
            paired[index] = real
        return paired[index]

    def stored(index: int, reader_is_float: bool) -> int:
        maker = makers.get(index)
        raw = reader_is_float and (maker is None or is_float(graph, plan, maker))
        return index if raw or index not in scales else pair(index, scales[index])

    for op in graph.ops:
        floating = is_float(graph, plan, op)
        new = fb.op(model, op.index)
        if not floating:
            _round_constants(model, graph, new, scales)
        edit.map_inputs(new.operator, lambda i, floating=floating: stored(i, floating))  # type: ignore[misc]
        operators.append(new.operator)
    outputs = []
    for index in map(int, model.subgraphs[0].outputs):
        while index in makers and SCALES.get(makers[index].name) in FIXED_SCALES:
            index = int(makers[index].operator.inputs[0])
        outputs.append(stored(index, index not in makers or is_float(graph, plan, makers[index])))
    model.subgraphs[0].operators = operators
    edit.set_outputs(model, outputs)
    return model


def _round_constants(model: Any, graph: TfliteGraph, op: fb.Op, scales: dict[int, Affine]) -> None:
    """Moves the constants of an integer operator, but for weights and bias, to the integers they become."""
    own = (LINEAR[op.name].weights, LINEAR[op.name].bias) if op.name in LINEAR else ()
    for position, tensor in enumerate(op.inputs):
        constant = tensor is not None and fb.type_name(tensor) == "FLOAT32" and fb.is_constant(model, tensor)
        if constant and position not in own:
            values = fb.array(model, tensor)
            affine = constant_affine(op, values, scales)
            fb.set_array(model, edit.own_constant(model, op, position, ""), "FLOAT32", fake_quantize(values, affine))
