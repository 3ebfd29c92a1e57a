"""Zero points of weights that a kernel does not read, folded out into sums of its input.

Weights s (q - z) that share s and z along a run of input channels give, beside what symmetric weights s q give, the sum
of these channels times -s z. So the kernel reads s q, and an operator of its kind with one input channel a run reads
the sums: for convolutions with the same window, whose padding adds 0 to both.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from tfq_pipeline.errors import UnsupportedLayer
from tfq_pipeline.graph.protocol import LinearOp
from tfq_pipeline.plan import TensorPlan
from tfq_pipeline.tflite import edit
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.operators import LINEAR


def has_sums(planned: TensorPlan) -> bool:
    """Whether weights have zero points that are folded out; a DEQUANTIZE reads those of decoded weights itself."""
    return planned.affine is not None and not planned.affine.symmetric and not planned.decoded


def folded_zero_points(model: Any, op: fb.Op, layer: LinearOp, planned: TensorPlan) -> tuple[Any, ...]:
    """Adds what the zero points of a layer's weights take from its output, in place.

    Args:
        model: being written.
        op: an operator of `SUMS_OF_GROUPS` that reads and writes floats, with its integers written.
        layer: its float weights.
        planned: how they are quantized.

    Returns:
        Operators that run after it.

    Raises:
        UnsupportedLayer: where channels have to be summed in runs and a size of the input but the first is free.
    """
    name, (output,) = fb.text(op.outputs[0].name), map(int, op.operator.outputs)
    run = planned.group_size or layer.kernel.shape[-1]
    sums, summing = _sums(model, op, layer, run, name)
    # Integer 0 stands for -s z, the same along a run.
    _, zero = planned.grid(layer.kernel.shape)
    weights, decoding = _constant(model, f"{name}_zero_points", np.ascontiguousarray(zero[..., ::run]))
    bias = edit.add_constant(model, f"{name}_zero_points_bias", "FLOAT32", np.zeros(layer.channels, np.float32))
    main, part = (edit.add_tensor(model, op.outputs[0], f"{name}{end}", "FLOAT32") for end in ("_main", "_correction"))
    activation = op.operator.builtinOptions.fusedActivationFunction
    op.operator.builtinOptions.fusedActivationFunction = 0
    correction = copy.deepcopy(op.operator)
    correction.inputs = np.array([sums, weights, bias], np.int32)
    correction.outputs = np.array([part], np.int32)
    op.operator.outputs = np.array([main], np.int32)
    add = _with_options(edit.operator(model, "ADD", [main, part], [output]), "AddOptions")
    add.builtinOptions.fusedActivationFunction, add.builtinOptions.potScaleInt16 = activation, False
    return (*summing, *decoding, correction, add)


def _sums(model: Any, op: fb.Op, layer: LinearOp, run: int, name: str) -> tuple[int, tuple[Any, ...]]:
    """The sums of what an operator reads over runs of channels, and the operators that make them."""
    position = LINEAR[op.name].input
    source, read = op.inputs[position], int(op.operator.inputs[position])
    # A file may not know the channels of what it reshapes when it runs; there are as many as weights read, or, of
    # convolutions in groups, a multiple.
    depth = layer.kernel.shape[-1]
    flat = op.name == "FULLY_CONNECTED" and not op.operator.builtinOptions.keepNumDims
    runs = (depth if flat else max(fb.shape(source)[-1], depth)) // run
    inner = () if flat else _sizes(source)
    before: tuple[Any, ...] = ()
    if flat or runs > 1:
        if None in inner:
            raise UnsupportedLayer(
                layer.name,
                layer.type,
                "a size of its input is free, and sums for zero points of groups want it fixed",
                "fix the model's input shape, or take symmetric weights",
            )
        split = np.array([-1, *inner, runs, run], np.int32)
        shape = edit.add_constant(model, f"{name}_runs_shape", "INT32", split)
        made = _tensor(model, f"{name}_runs", (None, *inner, runs, run))
        reshape = _with_options(edit.operator(model, "RESHAPE", [read, shape], [made]), "ReshapeOptions")
        reshape.builtinOptions.newShape = split
        read, before = made, (reshape,)
    sums = _tensor(model, f"{name}_sums", (None, *inner, runs))
    axis = edit.add_constant(model, f"{name}_axis", "INT32", np.array([1 + len(inner) + len(before)], np.int32))
    summed = _with_options(edit.operator(model, "SUM", [read, axis], [sums]), "ReducerOptions")
    summed.builtinOptions.keepDims = not before
    return sums, (*before, summed)


def _sizes(tensor: Any) -> tuple[int | None, ...]:
    """Sizes between batch and channels, None where they are free."""
    shape = fb.shape(tensor)
    signature = shape if tensor.shapeSignature is None else tensor.shapeSignature
    return tuple(None if free < 0 else size for size, free in zip(shape, signature, strict=True))[1:-1]


def _tensor(model: Any, name: str, shape: tuple[int | None, ...]) -> int:
    """A float tensor with these sizes, None where they are free."""
    made = fb.schema().TensorT()
    made.name, made.hasRank, made.type = name, True, fb.schema().TensorType.FLOAT32
    made.shape = np.array([1 if size is None else size for size in shape], np.int32)
    made.shapeSignature = np.array([-1 if size is None else size for size in shape], np.int32)
    model.subgraphs[0].tensors.append(made)
    return len(model.subgraphs[0].tensors) - 1


def _constant(model: Any, name: str, values: np.ndarray) -> tuple[int, tuple[Any, ...]]:
    """A float constant, in half precision behind a DEQUANTIZE where that is exact, as it is for scales of groups times
    integers of 4 bits."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.array_equal(half.astype(np.float32), values):
        return edit.add_constant(model, name, "FLOAT32", values), ()
    stored = edit.add_constant(model, f"{name}_half", "FLOAT16", half)
    read = edit.add_tensor(model, model.subgraphs[0].tensors[stored], name, "FLOAT32")
    return read, (edit.operator(model, "DEQUANTIZE", [stored], [read], version=3),)


def _with_options(operator: Any, kind: str) -> Any:
    schema = fb.schema()
    operator.builtinOptions = getattr(schema, f"{kind}T")()
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
    return operator
