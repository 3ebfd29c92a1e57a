"""What is in a .tflite: operators, weights by bits, batch norm left over, float operators, sizes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite import metadata
from tfq_pipeline.tflite.delegation import delegation
from tfq_pipeline.tflite.operators import LINEAR

_FLOAT_TYPES = ("FLOAT16", "FLOAT32", "FLOAT64", "BFLOAT16")


def inspect(source: str | os.PathLike[str] | bytes) -> dict[str, Any]:
    """The `inspect` document of the interface.

    `float_size_bytes` is the size of the float .tflite of the same model where the file's metadata tell it; for
    files of other programs it is the size with every constant at 32 bits, and `float_size_source` says "computed".

    Raises:
        BadInput: for a missing or damaged file.
    """
    data = source if isinstance(source, bytes) else fb.read_file(source)
    model = fb.read(source)
    about = metadata.read(model)
    weights = [_weight(model, op, about) for op in fb.ops(model) if encoded_weights(model, op) is not None]
    counted = "float_size_bytes" in about
    float_size = int(about["float_size_bytes"]) if counted else len(data) + _growth(model)
    return {
        "size_bytes": len(data),
        "float_size_bytes": float_size,
        "float_size_source": "measured" if counted else "computed",
        "compression_ratio": round(float_size / len(data), 4),
        "ops": dict(sorted(Counter(op.name for op in fb.ops(model)).items())),
        "unfolded_batch_norms": len(unfolded_batch_norms(model)),
        "float_ops": len(float_ops(model)),
        "weights": weights,
        "delegate": delegation(data),
        "about": {key: value for key, value in about.items() if key != "operators"},
    }


def float_ops(model: Any) -> tuple[fb.Op, ...]:
    """Operators that compute in floating point. The conversions at the ends, QUANTIZE and DEQUANTIZE, only change
    the type."""
    return tuple(
        op
        for op in fb.ops(model)
        if op.name not in ("QUANTIZE", "DEQUANTIZE") and any(fb.type_name(t) in _FLOAT_TYPES for t in op.outputs)
    )


def unfolded_batch_norms(model: Any) -> tuple[fb.Op, ...]:
    """MULs by a constant per channel whose result an ADD or SUB of a constant per channel reads: a batch norm that
    was not folded."""
    added = {
        id(tensor)
        for op in fb.ops(model)
        if op.name in ("ADD", "SUB") and any(t is not None and _per_channel(model, t) for t in op.inputs)
        for tensor in op.inputs
    }
    return tuple(
        op
        for op in fb.ops(model)
        if op.name == "MUL"
        and any(t is not None and _per_channel(model, t) for t in op.inputs)
        and id(op.outputs[0]) in added
    )


def _per_channel(model: Any, tensor: Any) -> bool:
    shape = fb.shape(tensor)
    return fb.is_constant(model, tensor) and bool(shape) and shape[-1] > 1 and int(np.prod(shape)) == shape[-1]


def encoded_weights(model: Any, op: fb.Op) -> Any | None:
    """The constant that holds a linear operator's weights, behind the DEQUANTIZE of decoded ones; None where the
    operator is not linear or its weights are computed."""
    if op.name not in LINEAR:
        return None
    tensor = op.inputs[LINEAR[op.name].weights]
    if fb.is_constant(model, tensor):
        return tensor
    index = int(op.operator.inputs[LINEAR[op.name].weights])
    for decoder in fb.ops(model):
        if decoder.name == "DEQUANTIZE" and int(decoder.operator.outputs[0]) == index:
            return decoder.inputs[0] if fb.is_constant(model, decoder.inputs[0]) else None
    return None


def weight_scales(model: Any, tensor: Any) -> tuple[np.ndarray, int | None]:
    """Scales of weights, float32, channel after channel, and the size of the groups that have one each."""
    details = getattr(tensor.quantization, "details", None)
    if isinstance(details, fb.schema().BlockwiseQuantizationT):
        scales = fb.array(model, model.subgraphs[0].tensors[details.scales])
        return scales.astype(np.float32).reshape(-1), int(details.blockSize)
    return fb.scales(tensor), None


def _weight(model: Any, op: fb.Op, about: Mapping[str, Any]) -> dict[str, Any]:
    tensor = encoded_weights(model, op)
    assert tensor is not None
    kind = fb.type_name(tensor)
    entry = about.get("operators", {}).get(str(op.index), {})
    floating = kind in _FLOAT_TYPES
    scales, group = weight_scales(model, tensor)
    return {
        "tensor": fb.text(tensor.name),
        "layer": entry.get("source"),
        "op": op.name,
        "shape": list(fb.shape(tensor)),
        "bits": fb.BITS[kind] if floating else entry.get("bits", fb.BITS[kind]),
        "storage": kind,
        "scheme": "float" if floating else "uniform",
        "granularity": "group" if group is not None else "channel" if scales.size > 1 else "tensor",
        "group_size": group,
        "bytes": len(model.buffers[tensor.buffer].data),
    }


def _growth(model: Any) -> int:
    """Bytes that integer constants would gain at 32 bits a value, each buffer once."""
    buffers: dict[int, int] = {}
    for tensor in model.subgraphs[0].tensors:
        kind = fb.type_name(tensor)
        if fb.is_constant(model, tensor) and weight_scales(model, tensor)[0].size and fb.BITS.get(kind, 32) < 32:
            buffers[tensor.buffer] = 4 * int(np.prod(fb.shape(tensor))) - len(model.buffers[tensor.buffer].data)
    return sum(buffers.values())
