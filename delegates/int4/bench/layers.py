"""Layer by layer: INT4 with the delegate against int8 with XNNPACK, each op of a model alone, interleaved.

    python -m delegates.int4.bench.layers mobilenet_v2

Shows where the delegate loses: the runtime sees a partition as one node and cannot say. Equal ops are measured once and
counted as often as they occur. Each op pays what a call of the runtime costs, the same on both sides.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from android_bench.latency import ratio
from delegates.int4.bench.compare import Loaded, Schedule, Variant, interleave, load
from delegates.int4.bench.cpu_class import CLASSES, HIDE_LIBRARY, hide
from tfq_pipeline.tflite import flatbuffer as fb

_VARIANTS = (Variant("i8", False, 1), Variant("i4", True, 1))


def alone(model: Any, op: fb.Op) -> bytes:
    """A model of one operator of another; its activations are the inputs."""
    schema = fb.schema()
    used = list(dict.fromkeys(int(i) for i in [*op.operator.inputs, *op.operator.outputs] if i >= 0))
    place = {before: after for after, before in enumerate(used)}
    graph, small = model.subgraphs[0], schema.ModelT()
    subgraph = schema.SubGraphT()
    small.version, small.subgraphs, small.buffers = 3, [subgraph], [schema.BufferT()]
    subgraph.tensors = []
    for before in used:
        tensor = copy(graph.tensors[before])
        if fb.is_constant(model, tensor):
            small.buffers.append(model.buffers[tensor.buffer])
            tensor.buffer = len(small.buffers) - 1
        else:
            tensor.buffer = 0
        subgraph.tensors.append(tensor)
    operator = copy(op.operator)
    small.operatorCodes, operator.opcodeIndex = [model.operatorCodes[operator.opcodeIndex]], 0
    operator.inputs = np.array([place.get(int(i), -1) for i in operator.inputs], np.int32)
    operator.outputs = np.array([place[int(i)] for i in operator.outputs], np.int32)
    subgraph.operators = [operator]
    subgraph.inputs = [i for i in operator.inputs if i >= 0 and not fb.is_constant(small, subgraph.tensors[i])]
    subgraph.outputs = list(operator.outputs)
    return fb.pack(small)


@dataclass(frozen=True)
class Layer:
    """Equal ops of a model: what they are called, how many there are, and the files of one of them by variant."""

    name: str
    count: int
    files: Mapping[str, bytes]


def layers(folder: Path, model: str) -> list[Layer]:
    """The different ops of a model's static files, in order."""
    read = {v.name: fb.read(folder / f"{model}.{v.format}.tflite") for v in _VARIANTS}
    found: dict[str, list[Mapping[str, bytes]]] = {}
    for ops in zip(*map(fb.ops, read.values()), strict=True):
        files = {name: alone(read[name], op) for name, op in zip(read, ops, strict=True)}
        found.setdefault(_name(ops[0]), []).append(files)
    return [Layer(name, len(files), files[0]) for name, files in found.items()]


def _name(op: fb.Op) -> str:
    shapes = ["x".join(map(str, fb.shape(t))) for t in op.inputs if t is not None and len(fb.shape(t)) > 1]
    stride = getattr(op.operator.builtinOptions, "strideH", 1)
    return f"{op.name} {' '.join(shapes)}" + (f" stride {stride}" if stride > 1 else "")


def measure(layer: Layer, schedule: Schedule) -> dict[str, Any]:
    """{"name", "count", "int8_ms", "int4_ms", "ratio", "kernels"} of one layer."""
    with tempfile.TemporaryDirectory(prefix="tfq-") as folder:
        loaded: list[Loaded] = []
        for variant in _VARIANTS:
            path = Path(folder) / f"{variant.format}.tflite"
            path.write_bytes(layer.files[variant.name])
            loaded.append(load(path, variant))
        times = interleave(loaded, schedule)
    int8, int4 = (times[v.name] for v in _VARIANTS)
    report = loaded[-1].report or {}
    return {
        "name": layer.name,
        "count": layer.count,
        "int8_ms": statistics.median(int8),
        "int4_ms": statistics.median(int4),
        "ratio": ratio(int4, int8)["median"],
        "kernels": [node["kernel"] for node in report.get("taken", [])],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares the layers of models, each alone.")
    parser.add_argument("--models", type=Path, default=Path("out/bench"), help="folder of bench.models")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--as", dest="cpu_class", choices=list(CLASSES), default="native", help="a lesser CPU")
    parser.add_argument("--hide_library", type=Path, default=HIDE_LIBRARY, help="what --as needs")
    parser.add_argument("names", nargs="+", metavar="MODEL")
    args = parser.parse_args()
    hide(args.cpu_class, args.hide_library)
    schedule = Schedule(rounds=args.rounds, seconds=0.002)
    for name in args.names:
        results = [measure(layer, schedule) for layer in layers(args.models, name)]
        print(f"{name}: what the delegate costs over int8 (ms), all layers alike together, and one of them")
        for r in sorted(results, key=lambda r: (r["int8_ms"] - r["int4_ms"]) * r["count"]):
            over = (r["int4_ms"] - r["int8_ms"]) * r["count"]
            cells = f"{over:+8.3f} {r['count']:3} x {r['int4_ms']:7.3f} of {r['int8_ms']:7.3f} = {r['ratio']:5.2f}"
            print(f"{cells}  {r['name']}  {' '.join(r['kernels']) or 'left to the runtime'}")


if __name__ == "__main__":
    main()
