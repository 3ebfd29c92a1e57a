"""TFLite flatbuffers as objects: reading with errors that name the file, writing whole files only."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np

from tfq_pipeline.errors import BadInput
from tfq_pipeline.numerics.packing import pack_bits, unpack_bits

IDENTIFIER = b"TFL3"

# Storage type of a tensor to numpy, and the bits of one element; sub-byte types are packed.
_NUMPY = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "FLOAT64": np.float64,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
SUB_BYTE = {"INT4": 4, "INT2": 2}
BITS = {**{name: np.dtype(kind).itemsize * 8 for name, kind in _NUMPY.items()}, **SUB_BYTE}


def schema() -> Any:
    """The generated TFLite schema."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def read(source: str | os.PathLike[str] | bytes, name: str | None = None) -> Any:
    """The ModelT of a file or of its bytes; data that lies outside the flatbuffer is brought in.

    Args:
        source: path or bytes.
        name: what errors call it; the path by default.

    Raises:
        BadInput: for a file that is missing, empty, no TFLite model or damaged.
    """
    if name is None:
        name = "the model" if isinstance(source, bytes) else os.fspath(source)
    data = source if isinstance(source, bytes) else read_file(source)
    if len(data) < 16 or data[4:8] != IDENTIFIER:
        raise BadInput(
            f"{name}: not a TFLite model ({len(data)} bytes, no {IDENTIFIER.decode()} mark); give a .tflite file"
        )
    try:
        model = schema().ModelT.InitFromPackedBuf(data, 0)
        for buffer in model.buffers:
            if buffer.offset > 1:
                if buffer.offset + buffer.size > len(data):
                    raise ValueError(f"a buffer ends at {buffer.offset + buffer.size} of {len(data)} bytes")
                buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
                buffer.offset = buffer.size = 0
        if not model.subgraphs or model.operatorCodes is None:
            raise ValueError("it has no graph")
    except (
        struct.error,
        IndexError,
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
        UnicodeDecodeError,
    ) as error:
        raise BadInput(f"{name}: damaged TFLite model ({error}); export or copy it again") from error
    return model


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file.

    Raises:
        BadInput: for a path that is missing, a folder or not readable.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise BadInput(f"{os.fspath(path)}: no such file; check the path") from None
    except OSError as error:
        raise BadInput(f"{os.fspath(path)}: cannot be read ({error.strerror}); give a readable file") from error


def pack(model: Any) -> bytes:
    """The bytes of a ModelT."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes beside, then renames: the file appears whole or not at all.

    Raises:
        BadInput: when the folder is missing, not writable or full.
    """
    target = os.fspath(path)
    beside = f"{target}.partial-{os.getpid()}"
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except OSError as error:
        raise BadInput(
            f"{target}: cannot be written ({error.strerror}); give a writable path with room for {len(data)} bytes"
        ) from error
    finally:
        if os.path.exists(beside):
            os.unlink(beside)


def type_name(tensor: Any) -> str:
    """Storage type of a TensorT, such as INT8."""
    return _names("TensorType")[tensor.type]


def op_name(model: Any, operator: Any) -> str:
    """Builtin name of an OperatorT, or the custom code."""
    code = model.operatorCodes[operator.opcodeIndex]
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = _names("BuiltinOperator").get(builtin, f"BUILTIN_{builtin}")
    return (code.customCode or b"CUSTOM").decode() if name == "CUSTOM" else name


def _names(enum: str) -> dict[int, str]:
    return {value: name for name, value in vars(getattr(schema(), enum)).items() if isinstance(value, int)}


def text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def shape(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(n) for n in tensor.shape)


def is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def array(model: Any, tensor: Any) -> np.ndarray:
    """The values of a constant tensor, unpacked to one element each.

    Raises:
        ValueError: for a tensor without data or of a type without numbers.
    """
    kind = type_name(tensor)
    data = model.buffers[tensor.buffer].data
    if data is None:
        raise ValueError(f"tensor {text(tensor.name)} is not constant")
    raw = np.asarray(data, np.uint8)
    if kind in SUB_BYTE:
        return unpack_bits(raw, int(np.prod(shape(tensor))), SUB_BYTE[kind]).reshape(shape(tensor))
    if kind not in _NUMPY:
        raise ValueError(f"tensor {text(tensor.name)} has type {kind}")
    return raw.view(_NUMPY[kind]).reshape(shape(tensor))


def set_array(model: Any, tensor: Any, kind: str, values: np.ndarray) -> None:
    """Gives a constant tensor other values in storage type `kind`, in a buffer of its own."""
    if kind in SUB_BYTE:
        raw = pack_bits(values, SUB_BYTE[kind])
    else:
        raw = np.ascontiguousarray(values, _NUMPY[kind]).reshape(-1).view(np.uint8)
    shared = sum(t.buffer == tensor.buffer for graph in model.subgraphs for t in graph.tensors) > 1
    if shared:
        model.buffers.append(schema().BufferT())
        tensor.buffer = len(model.buffers) - 1
    model.buffers[tensor.buffer].data = raw
    tensor.type = getattr(schema().TensorType, kind)


@dataclass(frozen=True, eq=False)
class Op:
    """An operator of the main graph with its tensors; `inputs` holds None where an optional one is left out."""

    index: int
    name: str
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    operator: Any


def ops(model: Any) -> Iterator[Op]:
    """Operators of the main graph in execution order."""
    return (op(model, index) for index in range(len(model.subgraphs[0].operators)))


def op(model: Any, index: int) -> Op:
    """The operator of the main graph at an index."""
    graph = model.subgraphs[0]
    operator = graph.operators[index]
    return Op(
        index,
        op_name(model, operator),
        tuple(None if i < 0 else graph.tensors[i] for i in _ids(operator.inputs)),
        tuple(graph.tensors[i] for i in _ids(operator.outputs)),
        operator,
    )


def port_names(model: Any) -> dict[int, str]:
    """Names of the main graph's inputs and outputs, by tensor index: those of its first signature, or without one those
    of the tensors, less what TensorFlow's converter puts around the name that an input had."""
    graph = model.subgraphs[0]
    for signature in model.signatureDefs or []:
        if signature.subgraphIndex == 0:
            entries = [*(signature.outputs or []), *(signature.inputs or [])]
            return {int(entry.tensorIndex): text(entry.name) for entry in entries}
    whole = {i: text(graph.tensors[i].name).split(";")[0] for i in (*_ids(graph.outputs), *_ids(graph.inputs))}
    short = {i: whole[i].removeprefix("serving_default_").removesuffix(":0") for i in _ids(graph.inputs)}
    return {**whole, **short} if len(set(short.values())) == len(short) else whole


def _ids(indices: Any) -> tuple[int, ...]:
    return () if indices is None else tuple(int(i) for i in indices)


def scales(tensor: Any) -> np.ndarray:
    """Scales of a tensor, float32; empty where it has none."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None:
        return np.zeros(0, np.float32)
    return np.asarray(quantization.scale, np.float32)


def zero_points(tensor: Any) -> np.ndarray:
    """Zero points of a tensor, int64; empty where it has none."""
    quantization = tensor.quantization
    if quantization is None or quantization.zeroPoint is None:
        return np.zeros(0, np.int64)
    return np.asarray(quantization.zeroPoint, np.int64)
