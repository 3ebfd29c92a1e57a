"""What a layer costs by the bits of its weights: the tables that bits are learned and chosen under."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.protocol import Graph
from tfq_pipeline.numerics.packing import packed_size
from tfq_pipeline.passes.calibrate import scale_source
from tfq_pipeline.plan import Plan
from tfq_pipeline.tflite.operators import stored_bits

# Picojoules in a 45 nm process (Horowitz, ISSCC 2014, figure 1.1.9): a multiplication of 8 by 8 bits, an addition of 32
# bits, and a bit from DRAM (1.3 nJ for 64).
_MULTIPLY_8, _ADD_32, _DRAM_BIT = 0.2, 0.1, 1300.0 / 64.0


@dataclass(frozen=True)
class Work:
    """What a layer does for one sample.

    Attributes:
        layer: its name.
        weights: how many it has.
        places: how often it multiplies with each of them, None where a tensor's size is free.
        activation_bits: of what it multiplies them with; 32 for floats.
    """

    layer: str
    weights: int
    places: int | None
    activation_bits: int

    @property
    def multiplications(self) -> int:
        """
        Raises:
            BadInput: where they are not known.
        """
        if self.places is None:
            raise BadInput(
                f"layer '{self.layer}': its input has a free size, so its work is not known; "
                "fix the model's input shape, or give a budget of bits or size"
            )
        return self.weights * self.places


def work(graph: Graph, plan: Plan) -> dict[str, Work]:
    """The work of each linear layer."""
    tensors = graph.tensors()
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    found = {}
    for op in graph.linear_ops():
        # A transposed convolution multiplies each value that it reads with a kernel, others do for each they write.
        name = op.input if op.op == "TRANSPOSE_CONV" else op.output
        known = [n for n in shapes[name][:-1] if n is not None]
        places = math.prod(known) * op.calls if len(known) == len(shapes[name]) - 1 else None
        source = None if op.name in plan.floats else plan.activations.get(scale_source(tensors, op.input))
        dynamic = 32 if plan.weights[op.name].decoded or plan.weights[op.name].is_float else 8
        found[op.name] = Work(op.name, op.kernel.size, places, dynamic if source is None else source.bits)
    return found


def _energy(layer: Work, bits: int) -> float:
    """Modelled microjoules: a multiplier of exactly the operands' bits, and each weight once from DRAM as the file
    holds it."""
    multiply = _MULTIPLY_8 * bits * layer.activation_bits / 64.0
    return 1e-6 * (layer.multiplications * (multiply + _ADD_32) + layer.weights * stored_bits(bits) * _DRAM_BIT)


# Costs of a layer at so many bits, by name: kilobytes of weights at their bits, kilobytes as the file holds them (4 or
# 8 bits each), millions of products of one bit (multiplications x bits x bits), and modelled microjoules.
COSTS: Mapping[str, Callable[[Work, int], float]] = MappingProxyType(
    {
        "bits": lambda layer, bits: layer.weights * bits / 8e3,
        "size": lambda layer, bits: packed_size(layer.weights, stored_bits(bits)) / 1e3,
        "operations": lambda layer, bits: 1e-6 * layer.multiplications * bits * layer.activation_bits,
        "energy": _energy,
    }
)


def read_latencies(path: str | os.PathLike[str]) -> dict[str, dict[int, float]]:
    """Milliseconds by layer and stored bits, from a JSON file like ``{"conv": {"4": 0.11, "8": 0.09}}``.

    Raises:
        BadInput: for a file that is no such table.
    """
    try:
        table = json.loads(Path(path).read_text("utf-8"))
        return {str(layer): {int(bits): float(ms) for bits, ms in entries.items()} for layer, entries in table.items()}
    except OSError as error:
        raise BadInput(f"latency table {os.fspath(path)}: {error.strerror}; give a JSON file") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise BadInput(
            f'latency table {os.fspath(path)}: not a table ({error}); write {{"layer": {{"4": ms, "8": ms}}}}'
        ) from error


def latency(table: Mapping[str, Mapping[int, float]], layer: str, bits: int) -> float:
    """Milliseconds of a layer, at the bits that the file holds.

    Raises:
        BadInput: where the table does not say.
    """
    stored = stored_bits(bits)
    if stored not in table.get(layer, {}):
        raise BadInput(f"latency table: nothing of layer '{layer}' at {stored} bits; measure it and add it")
    return table[layer][stored]
