"""Runs damaged models with and without the delegate; a process of its own, since a runtime may crash on them.

    python -m tests.unit.delegates.damaged_files_process FIRST COUNT

Prints as JSON the seeds where the delegate did not do as the runtime alone, each with both outcomes ("found"), and how
often each outcome of the runtime came ("alone").
"""

from __future__ import annotations

import collections
import json
import os
import pickle
import resource
import signal
import sys
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tests.unit.delegates.around import random_net
from tests.unit.delegates.model_builder import ModelBuilder, random_network
from tests.unit.delegates.test_floating_point import random_dense
from tfq_pipeline import delegate
from tfq_pipeline.tflite import flatbuffer as fb

SECONDS, BYTES = 10, 4 << 30
NUMBERS = (0, 1, -1, 2, 3, 5, 7, 127, 128, -128, 255, 4096, 65536, 2**30, 2**31 - 1, -(2**31))
REALS = (0.0, -0.0, -1.0, np.nan, np.inf, -np.inf, 1e-45, 1e-38, 1e38, 1e-9, 1e9, 0.3)


def sound(rng: np.random.Generator) -> bytes:
    """A small model of static, dynamic, blockwise or weight-only layers, or of operators around them."""
    kind, seed = rng.integers(5), int(rng.integers(1000))
    if kind == 0:
        builder = ModelBuilder()
        random_network(builder, np.random.default_rng(seed), depth=int(rng.integers(1, 4)))
        return builder.build()
    if kind == 1:
        return random_net(seed)[0]
    return random_dense(seed, block=32 * (kind == 2), weight_only=bool(kind == 3)).model


def damaged(rng: np.random.Generator) -> bytes:
    """A model with one to three things changed: fields of the file's tables, or its bytes."""
    model = sound(rng)
    if rng.random() < 0.15:
        data = bytearray(model)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        return bytes(data[: rng.integers(8, len(data))] if rng.random() < 0.2 else data)
    tables = fb.read(model)
    for _ in range(rng.integers(1, 4)):
        _change(tables, rng)
    try:
        return fb.pack(tables)
    except Exception:  # no such file can be written
        return model


def _change(model: Any, rng: np.random.Generator) -> None:
    """Changes one field of a tensor, an operator, or a buffer."""
    graph = model.subgraphs[0]
    tensor = graph.tensors[rng.integers(len(graph.tensors))]
    operator = graph.operators[rng.integers(len(graph.operators))]
    buffer = model.buffers[rng.integers(len(model.buffers))]
    count = len(graph.tensors)
    kind = rng.integers(10)
    if kind == 0 and len(tensor.shape):
        tensor.shape = list(tensor.shape)
        tensor.shape[rng.integers(len(tensor.shape))] = _number(rng)
    elif kind == 1:
        shape = list(tensor.shape)
        tensor.shape = [[*shape, 1], shape[:-1], [], [1, *shape], shape[::-1]][rng.integers(5)]
    elif kind == 2:
        tensor.type = int(rng.choice([0, 1, 2, 3, 4, 6, 7, 9, 17]))
    elif kind in (3, 4) and tensor.quantization is not None:
        _change_quantization(tensor.quantization, rng, count)
    elif kind == 5 and buffer.data is not None and len(buffer.data):
        buffer.data = buffer.data[: rng.integers(len(buffer.data))]
    elif kind == 6:
        name = "inputs" if rng.random() < 0.7 else "outputs"
        places = list(getattr(operator, name))
        if places:
            places[rng.integers(len(places))] = int(rng.integers(-1, count + 1))
        setattr(operator, name, places)
    elif kind == 7:
        operator.inputs = list(operator.inputs)[: rng.integers(len(operator.inputs) + 1)]
    elif kind == 8:
        tensor.buffer = int(rng.integers(len(model.buffers)))
    elif operator.builtinOptions is not None:
        fields = [name for name, value in vars(operator.builtinOptions).items() if isinstance(value, int)]
        if fields:
            setattr(operator.builtinOptions, str(rng.choice(fields)), int(rng.choice([0, 1, 2, 3, 5, 100])))


def _change_quantization(quantization: Any, rng: np.random.Generator, tensors: int) -> None:
    for name in ("scale", "zeroPoint"):  # what was read cannot be written to
        values = getattr(quantization, name)
        setattr(quantization, name, None if values is None else np.array(values))
    kind, scales = rng.integers(6), quantization.scale
    if kind == 0 and scales is not None and len(scales):
        scales[rng.integers(len(scales))] = rng.choice(REALS)
    elif kind == 1:
        quantization.scale = scales[: rng.integers(len(scales))] if scales is not None and len(scales) else None
    elif kind == 2 and quantization.zeroPoint is not None and len(quantization.zeroPoint):
        quantization.zeroPoint[rng.integers(len(quantization.zeroPoint))] = int(rng.choice([1, -1, 128, 300, 2**40]))
    elif kind == 3:
        quantization.quantizedDimension = _number(rng)
    elif kind == 4:
        quantization.zeroPoint = None
    elif quantization.details is not None:
        if rng.random() < 0.5:
            quantization.details.scales = int(rng.integers(-1, tensors + 2))
        else:
            quantization.details.blockSize = int(rng.choice([0, -1, 1, 3, 16, 32, 64, 2**31 - 1]))


def _number(rng: np.random.Generator) -> int:
    return int(rng.choice(NUMBERS))


def outcome(model: bytes, seed: int, delegated: bool) -> tuple[str, Any]:
    """("ok", the outputs), ("error", the message) or ("died", the signal), of a process forked for this run."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(SECONDS)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            try:
                result: tuple[str, Any] = "ok", _outputs(model, seed, delegated)
            except (ValueError, RuntimeError, MemoryError, TypeError) as error:
                result = "error", str(error)
            with os.fdopen(writer, "wb") as stream:
                pickle.dump(result, stream)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        text = stream.read()
    _, status = os.waitpid(child, 0)
    return pickle.loads(text) if text else ("died", os.WTERMSIG(status))


def _outputs(model: bytes, seed: int, delegated: bool) -> list[np.ndarray]:
    interpreter = Interpreter(
        model_content=model,
        experimental_delegates=[delegate.load(match="litert")] if delegated else None,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    rng = np.random.default_rng(seed)
    for detail in interpreter.get_input_details():
        values = rng.uniform(-100, 100, detail["shape"])
        interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def alike(alone: tuple[str, Any], ours: tuple[str, Any]) -> bool:
    """Whether the delegate did no worse than the runtime's built-in kernels.

    They refuse some sound layers that it takes (a convolution without a bias), and round the inputs of layers with
    floating-point outputs otherwise: of these only the shape is compared.
    """
    if alone[0] != "ok":
        return alone[0] == "died" or ours[0] != "died"
    return ours[0] == "ok" and all(
        a.shape == b.shape and a.dtype == b.dtype and (a.dtype.kind == "f" or np.array_equal(a, b))
        for a, b in zip(alone[1], ours[1], strict=True)
    )


def main(first: int, count: int) -> None:
    counts: collections.Counter[str] = collections.Counter()
    found = []
    for seed in range(first, first + count):
        model = damaged(np.random.default_rng(seed))
        alone, ours = (outcome(model, seed, delegated) for delegated in (False, True))
        counts[alone[0]] += 1
        if not alike(alone, ours):
            found.append([seed, *(repr(one)[:300] for one in (alone, ours))])
    print(json.dumps({"found": found, "alone": counts}, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
