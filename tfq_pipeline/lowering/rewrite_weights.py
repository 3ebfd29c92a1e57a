"""Writes a Plan's weights into a file: the integers, scales and biases of a linear operator, 2 to 8 bits, per tensor,
channel or group."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfq_pipeline.graph.protocol import LinearOp
from tfq_pipeline.lowering.steady import bias_scale, rounded_steadily
from tfq_pipeline.lowering.zero_points import has_sums
from tfq_pipeline.numerics.affine import Affine, spread
from tfq_pipeline.numerics.fixed_point import excess_of_double_rounding
from tfq_pipeline.plan import TensorPlan
from tfq_pipeline.tflite import edit
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.operators import LINEAR, ROUNDED_TWICE, stored_bits

_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1024  # the largest that a double holds


def write_weights(
    model: Any, op: fb.Op, layer: LinearOp, planned: TensorPlan, source: Affine | None, target: Affine | None
) -> tuple[Any, ...]:
    """Stores a layer's weights as planned, in place.

    Args:
        model: being written.
        op: the linear operator.
        layer: its float weights and bias.
        planned: how they are quantized; float ones stay as they are.
        source: parameters of the activation that it reads, None where that is float: then the bias stays float.
        target: parameters of what it writes, None where that is float.

    Returns:
        Operators that have to run before it: the DEQUANTIZE of decoded weights.
    """
    if planned.affine is None:
        return ()
    at = LINEAR[op.name]
    weights = edit.own_constant(model, op, at.weights, "")
    fb.set_array(model, weights, f"INT{stored_bits(planned.bits)}", planned.integers(layer.kernel))
    if planned.group_size is None:
        affine = planned.affine
        zero_point = np.zeros_like(affine.zero_point) if has_sums(planned) else affine.zero_point
        weights.quantization = edit.quantization(affine.scale, zero_point, affine.axis)
    else:
        _set_groups(model, weights, planned, layer.channels)
    if source is None:
        if planned.decoded:
            return (_decoded(model, op, at.weights),)
        if hasattr(op.operator.builtinOptions, "asymmetricQuantizeInputs"):
            op.operator.builtinOptions.asymmetricQuantizeInputs = True
        return ()
    # Integer kernels of convolutions want a bias, be it 0.
    scale = bias_scale(float(spread(source).scale[0]), planned.affine)
    bias = edit.own_constant(model, op, at.bias, f"{fb.text(weights.name)}_bias")
    kind = "INT32" if source.bits <= 8 else "INT64"
    bias.shape = np.array([layer.channels], np.int32)
    if target is not None and max(source.bits, target.bits) < 8:
        values, _ = rounded_steadily(layer, planned.affine, source, target)
        values = np.clip(values, -_INT32_MAX, _INT32_MAX).astype(np.int32)
    else:
        excess: np.ndarray | float = 0.0
        if target is not None and op.name in ROUNDED_TWICE and planned.bits <= 4 and source.bits <= 8:
            excess = excess_of_double_rounding(scale / float(target.scale[0]))
        values = quantized_bias(layer.bias, scale, layer.channels, kind, excess)
    fb.set_array(model, bias, kind, values)
    bias.quantization = edit.quantization(scale, np.zeros(len(scale)), 0)
    return ()


def _set_groups(model: Any, weights: Any, planned: TensorPlan, channels: int) -> None:
    """Blockwise parameters: the scales in half precision as a constant [channels, groups]."""
    assert planned.affine is not None
    scale = planned.affine.scale.reshape(channels, -1).astype(np.float16)
    schema = fb.schema()
    details = schema.BlockwiseQuantizationT()
    details.scales = edit.add_constant(model, f"{fb.text(weights.name)}_scales", "FLOAT16", scale)
    details.zeroPoints, details.blockSize = -1, planned.group_size
    weights.quantization = schema.QuantizationParametersT()
    weights.quantization.details = details
    weights.quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization


def _decoded(model: Any, op: fb.Op, position: int) -> Any:
    """A DEQUANTIZE of the constant at a position, which the operator then reads."""
    graph = model.subgraphs[0]
    index = int(op.operator.inputs[position])
    made = edit.add_tensor(model, graph.tensors[index], f"{fb.text(graph.tensors[index].name)}_decoded", "FLOAT32")
    op.operator.inputs[position] = made
    return edit.operator(model, "DEQUANTIZE", [index], [made])


def quantized_bias(
    bias: np.ndarray | None, scale: np.ndarray, channels: int, kind: str = "INT32", excess: np.ndarray | float = 0.0
) -> np.ndarray:
    """int32 or int64 [channels], saturated; that of a layer without a bias is 0.

    Args:
        bias: [channels], or None.
        scale: of the sum, for all channels or each.
        channels: of the output.
        kind: TFLite type of the result.
        excess: what the sum's rounding adds to it in the mean, in steps of `scale`; taken off.
    """
    real = np.zeros(channels) if bias is None else bias.astype(np.float64)
    steps = real / scale - excess
    top, made = (_INT32_MAX, np.int32) if kind == "INT32" else (_INT64_MAX, np.int64)
    return np.clip(np.trunc(steps + np.copysign(0.5, steps)), -top, top).astype(made)
