"""Runs a .tflite in the runtimes that users have, with or without the delegate."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from tfq_pipeline.data import InputSpec
from tfq_pipeline.errors import BadInput, DeviceFailed
from tfq_pipeline.numerics.affine import Affine, quantize
from tfq_pipeline.tflite import flatbuffer as fb


def _litert() -> Any:
    from ai_edge_litert import interpreter

    return interpreter


def _tensorflow() -> Any:
    from tensorflow.lite.python import interpreter

    return interpreter


# Runtimes by the name that results carry; each module has Interpreter and OpResolverType. tflite-runtime is not among
# them: it fails in a process that imported tensorflow (see load_check).
RUNTIMES: Mapping[str, Callable[[], Any]] = {"litert": _litert, "tensorflow": _tensorflow}


@dataclass(frozen=True)
class Port:
    """An input or output of the model as it lies in the file, by the name that the file's signature gives it."""

    index: int
    name: str
    shape: tuple[int, ...]
    free: tuple[bool, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int

    @property
    def quantized(self) -> bool:
        return self.scale != 0.0 and self.dtype.kind == "i"

    def to_file(self, x: np.ndarray) -> np.ndarray:
        """Real values to what the model reads."""
        if not self.quantized:
            return np.asarray(x, self.dtype)
        bits = 8 * self.dtype.itemsize
        affine = Affine(
            bits, np.array([self.scale], np.float32), np.array([self.zero_point], np.int32), None, False, False
        )
        return quantize(x, affine).astype(self.dtype)

    def to_real(self, q: np.ndarray) -> np.ndarray:
        """What the model writes to float32."""
        if not self.quantized:
            return q.astype(np.float32, copy=False)
        return (q.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


class TfliteModel:
    """A loaded model. Values are real (float32) at both ends unless said; samples run one by one if the batch is
    fixed."""

    def __init__(self, interpreter: Any, names: Mapping[int, str] = MappingProxyType({})) -> None:
        """Wraps an interpreter with allocated tensors.

        Args:
            interpreter: of any of the runtimes.
            names: what inputs and outputs are called, by tensor index; the tensor's own name where there is none.
        """
        self._interpreter = interpreter
        self.input_ports = tuple(_port(d, names) for d in interpreter.get_input_details())
        self.output_ports = tuple(_port(d, names) for d in interpreter.get_output_details())

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """Shapes without the batch dimension; real values, so float32 for quantized inputs."""
        return tuple(
            InputSpec(
                p.name,
                tuple(None if free else n for n, free in list(zip(p.shape, p.free, strict=True))[1:]),
                "float32" if p.quantized else p.dtype.name,
            )
            for p in self.input_ports
        )

    def run(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Real outputs [batch, ...] for real inputs [batch, ...]."""
        raw = self.run_raw([port.to_file(x) for port, x in zip(self.input_ports, inputs, strict=True)])
        return tuple(port.to_real(q) for port, q in zip(self.output_ports, raw, strict=True))

    def run_raw(self, inputs: Sequence[np.ndarray], tensors: Sequence[int] = ()) -> tuple[np.ndarray, ...]:
        """Outputs in the file's types for inputs in the file's types, [batch, ...].

        Args:
            inputs: one array per input, equal batch sizes.
            tensors: indices of tensors to read instead of the outputs; the model must keep them.

        Raises:
            DeviceFailed: when the runtime fails, with its message.
        """
        wanted = tuple(tensors) or tuple(p.index for p in self.output_ports)
        step, total = self.input_ports[0].shape[0], len(inputs[0])
        made: list[np.ndarray] = []
        filled = 0
        for rows in self._rows(inputs, wanted):
            if not made:
                made = [np.empty((-(-total // step) * len(r), *r.shape[1:]), r.dtype) for r in rows]
            for whole, part in zip(made, rows, strict=True):
                whole[filled * len(part) : (filled + 1) * len(part)] = part
            filled += 1
        return tuple(whole[: total * len(whole) // (filled * step)] for whole in made)

    def _fit(self, inputs: Sequence[np.ndarray]) -> None:
        """Gives free dimensions the size that the inputs have."""
        for port, x in zip(self.input_ports, inputs, strict=True):
            wanted = (port.shape[0], *x.shape[1:])
            if any(port.free[1:]) and len(wanted) == len(port.shape):
                self._interpreter.resize_tensor_input(port.index, wanted)
        if any(any(port.free[1:]) for port in self.input_ports):
            try:
                self._interpreter.allocate_tensors()
            except RuntimeError as error:
                raise BadInput(
                    f"inputs of shapes {[x.shape for x in inputs]}: the model takes none of that size "
                    f"({first_line(error)}); give data that fits"
                ) from error

    def _rows(self, inputs: Sequence[np.ndarray], wanted: Sequence[int]) -> Iterator[tuple[np.ndarray, ...]]:
        self._fit(inputs)
        step = self.input_ports[0].shape[0]
        total = len(inputs[0])
        for start in range(0, total, step):
            used = min(step, total - start)
            for port, x in zip(self.input_ports, inputs, strict=True):
                rows = x[start : start + step]
                if used < step:
                    rows = np.concatenate([rows, np.repeat(rows[-1:], step - used, axis=0)])
                try:
                    self._interpreter.set_tensor(port.index, np.ascontiguousarray(rows))
                except ValueError as error:
                    raise BadInput(
                        f"input '{port.name}': {first_line(error)}; the model wants {port.shape} {port.dtype}"
                    ) from error
            try:
                self._interpreter.invoke()
            except (RuntimeError, ValueError) as error:
                raise DeviceFailed(
                    f"the runtime failed while running the model: {first_line(error)}; try another runtime"
                ) from error
            yield tuple(self._interpreter.get_tensor(index) for index in wanted)


def open_model(
    source: str | os.PathLike[str] | bytes,
    delegate: str | None = None,
    threads: int = 1,
    runtime: str = "litert",
    keep_tensors: bool = False,
    default_delegates: bool = True,
) -> TfliteModel:
    """Loads a .tflite, ready to run.

    Args:
        source: path or bytes.
        delegate: None or "int4".
        threads: of the runtime and of the delegate.
        runtime: a name in `RUNTIMES`.
        keep_tensors: keeps the values of inner tensors for `run_raw`.
        default_delegates: False leaves XNNPACK out.

    Raises:
        BadInput: for a missing or damaged file, or an unknown runtime or delegate.
        DeviceFailed: when the runtime refuses the model.
    """
    data = source if isinstance(source, bytes) else fb.read_file(source)
    name = "the model" if isinstance(source, bytes) else os.fspath(source)
    model = fb.read(data, name)
    if runtime not in RUNTIMES:
        raise BadInput(f"runtime '{runtime}': not known; give one of {', '.join(RUNTIMES)}")
    module = RUNTIMES[runtime]()
    options: dict[str, Any] = {
        "model_content": data,
        "num_threads": threads,
        "experimental_preserve_all_tensors": keep_tensors,
    }
    if delegate is not None:
        options["experimental_delegates"] = [_delegate(delegate, threads, runtime, default_delegates)]
    if not default_delegates:
        options["experimental_op_resolver_type"] = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tf.lite.Interpreter says on each use that LiteRT is its successor
            interpreter = module.Interpreter(**options)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise DeviceFailed(
            f"{name}: {runtime} refuses it: {first_line(error)}; try another runtime, or the delegate"
        ) from error
    return TfliteModel(interpreter, fb.port_names(model))


def _delegate(name: str, threads: int, runtime: str, default_delegates: bool) -> Any:
    if name != "int4":
        raise BadInput(f"delegate '{name}': not known; give int4, or leave it out")
    from tfq_pipeline.delegate import load

    return load(threads=threads, runtime=runtime, match="xnnpack" if default_delegates else "litert")


def first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _port(detail: Mapping[str, Any], names: Mapping[int, str]) -> Port:
    scale, zero_point = detail["quantization"]
    shape = tuple(int(n) for n in detail["shape"])
    index = int(detail["index"])
    name = names.get(index, str(detail["name"]))
    signature = tuple(int(n) for n in detail["shape_signature"])
    free = tuple(n < 0 for n in signature) if len(signature) == len(shape) else (False,) * len(shape)
    return Port(index, name, shape, free, np.dtype(detail["dtype"]), float(scale), int(zero_point))
