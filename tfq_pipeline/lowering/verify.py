"""Verification: the file holds what the plan says and computes what the fake-quantized model computes.

Integer operators round once where the fake-quantized model computes in float and rounds after, so each operator may
differ by one step at a rounding boundary. The stated limit is therefore one step (LSB) for each operator with a
scale of its own on the longest way through the model; the mean is far below it. A model that magnifies the rounding of
its activations, by a channel of huge weights say, magnifies these steps as well: then the limit is `_MAGNIFIED` times
what that rounding changes in the fake-quantized model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tfq_pipeline.data import Data
from tfq_pipeline.errors import DeviceFailed, GateFailed
from tfq_pipeline.graph.protocol import Graph, LinearOp
from tfq_pipeline.lowering.reference import float_activations
from tfq_pipeline.plan import Plan
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite import metadata
from tfq_pipeline.tflite.inspect import encoded_weights, float_ops, unfolded_batch_norms, weight_scales
from tfq_pipeline.tflite.interpreter import RUNTIMES, first_line, open_model
from tfq_pipeline.tflite.load_check import loads_in_tflite_runtime
from tfq_pipeline.tflite.operators import stored_bits

# Operators whose int8 scale TFLite fixes and that stretch small differences; their input is compared instead of their
# output.
_FIXED_SCALE_OPS = ("SOFTMAX", "LOGISTIC", "TANH", "LOG_SOFTMAX")

# Operators that round on the scale they read: means of a few grid values are often half a step, both neighbours are
# right, and the next layer multiplies the difference.
_TIES = {"AVERAGE_POOL_2D": 2, "RESIZE_BILINEAR": 2}

# Both sides lie on the tensor's grid; float32 keeps their difference that near to a whole number of steps.
_GRID_NOISE = 0.01

# Steps by which one operator may differ. A step of 16 bits is small enough that every difference of the layers before
# shows, multiplied.
_STEPS = {"INT16": 8, "INT8": 1, "FLOAT32": 1}

# Rounding moves a value by half a step, the other rounding by one.
_MAGNIFIED = 2.0

# Float kernels add in different orders.
_FLOAT_NOISE = 1e-3

# Share of a float output that a step of the integers before it may become: a step is 1/255 of their range, and float
# layers may stretch it.
_FLOAT_STEP = 4 / 255

# Dynamic range rounds what each layer reads, which the fake-quantized model does not; nonsense lies above.
_DYNAMIC_NOISE = 0.5


@dataclass(frozen=True)
class Verification:
    """Result of `verify`.

    Attributes:
        samples: how many were compared.
        max_abs_error_lsb, mean_abs_error_lsb: difference to the fake-quantized model in steps of the compared tensor, 0
            for outputs that are computed in float.
        max_relative_error: of outputs that are computed in float, largest difference by largest magnitude.
        limit_lsb: the largest difference that is explained by one step an operator.
        argmax_agreement: share of samples with the same largest output; 1.0 for outputs with one value.
        float_ops, unfolded_batch_norms: counts in the file.
        runtimes: by runtime, "loads" or why not.
    """

    samples: int
    max_abs_error_lsb: float
    mean_abs_error_lsb: float
    max_relative_error: float
    limit_lsb: int
    argmax_agreement: float
    float_ops: int
    unfolded_batch_norms: int
    runtimes: dict[str, str]

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(eq=False)
class Comparison:
    """A file beside the fake-quantized model, batch by batch, and their differences so far.

    Attributes:
        data: the file.
        fake_quantized: callable from a batch of inputs to the outputs of the fake-quantized model, before any
            operator with a fixed scale.
        samples: compared so far.
        values: of them those in outputs with a scale.
        largest, total: difference of these values in steps, the largest and the sum.
        differing: how many of them are not the same integer.
        largest_relative: of outputs computed in float, largest difference by largest magnitude of the batch.
        agreeing: samples with the same largest output.
    """

    data: bytes
    fake_quantized: Callable[[Sequence[np.ndarray]], tuple[np.ndarray, ...]]
    samples: int = 0
    values: int = 0
    largest: float = 0.0
    total: float = 0.0
    differing: int = 0
    largest_relative: float = 0.0
    agreeing: int = 0
    tensors: list[tuple[int, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.tensors = compared_tensors(fb.read(self.data))
        self._runner = open_model(self.data, keep_tensors=True, default_delegates=False)

    def __call__(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Runs both on one batch; gives the outputs of the fake-quantized model."""
        ports = zip(self._runner.input_ports, inputs, strict=True)
        raw = self._runner.run_raw([p.to_file(x) for p, x in ports], [index for index, _ in self.tensors])
        reference = self.fake_quantized(inputs)
        for value, expected, (_, tensor) in zip(raw, reference, self.tensors, strict=True):
            if not fb.scales(tensor).size:
                self.largest_relative = max(self.largest_relative, _relative(value, expected))
                continue
            scale = float(fb.scales(tensor)[0])
            error = np.abs((value.astype(np.float64) - float(fb.zero_points(tensor)[0])) * scale - expected) / scale
            self.largest = max(self.largest, float(error.max()))
            self.total += float(error.sum())
            self.differing += int((error > 0.5).sum())
            self.values += error.size
        self.samples += len(inputs[0])
        self.agreeing += _argmax_agreement(raw[0], reference[0])
        return reference

    @property
    def mean(self) -> float:
        """Mean difference in steps."""
        return self.total / max(self.values, 1)

    def document(self) -> dict[str, Any]:
        """What is reported of a whole test set."""
        return {
            "samples": self.samples,
            "argmax_agreement": self.agreeing / max(self.samples, 1),
            "max_abs_error_lsb": round(self.largest, 3),
            "mean_abs_error_lsb": round(self.mean, 5),
            "differing": round(self.differing / max(self.values, 1), 6),
        }


def verify(
    data: bytes, graph: Graph, plan: Plan, fake_quantized: Any, samples: Data, require_integer: bool
) -> Verification:
    """Checks a lowered file.

    Args:
        data: the file.
        graph: the folded graph that was lowered.
        plan: its plan.
        fake_quantized: callable from a batch of inputs to the outputs of the fake-quantized model, before any
            operator with a fixed scale.
        samples: inputs to compare on.
        require_integer: one float operator is a failure.

    Raises:
        GateFailed: for batch norm left over, float operators in an integer file, weights other than planned, a
            difference above the limit, or a file that no runtime loads.
    """
    model = fb.read(data)
    check_weights(model, graph.linear_ops(), plan)
    norms, floats = unfolded_batch_norms(model), float_ops(model)
    if norms:
        raise GateFailed(
            f"operator {norms[0].index} (MUL): a batch normalization was not folded; "
            "put fold_batch_norm first in the recipe"
        )
    if floats and require_integer:
        names = ", ".join(sorted({op.name for op in floats}))
        raise GateFailed(
            f"{len(floats)} operators stay float ({names}), the first is operator {floats[0].index}; "
            "replace the layers they come from, or convert with a rule that skips them"
        )
    runtimes = {**{name: _loads(data, name) for name in RUNTIMES}, "tflite_runtime": loads_in_tflite_runtime(data)}
    if runtimes["litert"] != "loads":
        raise GateFailed(f"the file does not load in litert: {runtimes['litert']}")
    found = Comparison(data, fake_quantized)
    limit = longest_path(model) * max((_STEPS[fb.type_name(tensor)] for _, tensor in found.tensors), default=1)
    for batch in samples:
        found(batch.inputs)
    if found.largest > limit + _GRID_NOISE:
        unrounded = float_activations(graph, plan)
        limit = max(limit, math.ceil(_MAGNIFIED * _rounding(fake_quantized, unrounded, samples, found.tensors)))
    result = Verification(
        found.samples,
        round(found.largest, 3),
        round(found.mean, 5),
        float(f"{found.largest_relative:.3g}"),
        limit,
        found.agreeing / max(found.samples, 1),
        len(floats),
        len(norms),
        runtimes,
    )
    dynamic = any(_is_dynamic(name, plan) for name in plan.weights)
    explained = _DYNAMIC_NOISE if dynamic else _FLOAT_NOISE + limit * _FLOAT_STEP
    if found.largest_relative > explained:
        raise GateFailed(
            f"the file differs from the fake-quantized model by {found.largest_relative:.1e} of its largest output, "
            f"where rounding explains {explained:.1e}; please report it with the model: "
            "the runtime and the plan disagree"
        )
    if found.largest > limit + _GRID_NOISE:
        raise GateFailed(
            f"the file differs from the fake-quantized model by {found.largest:.1f} steps, "
            f"where rounding explains {limit}; please report it with the model: the runtime and the plan disagree"
        )
    return result


def _rounding(rounded: Any, unrounded: Any, samples: Data, tensors: Sequence[tuple[int, Any]]) -> float:
    """The largest difference between two models' outputs, in steps of those that have a scale."""
    largest = 0.0
    for batch in samples:
        for a, b, (_, tensor) in zip(rounded(batch.inputs), unrounded(batch.inputs), tensors, strict=True):
            if fb.scales(tensor).size:
                largest = max(largest, float(np.abs(a - b).max()) / float(fb.scales(tensor)[0]))
    return largest


def _relative(value: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(value - expected).max() / max(float(np.abs(expected).max()), np.finfo(np.float32).tiny))


def _is_dynamic(layer: str, plan: Plan) -> bool:
    """Whether a layer quantizes what it reads when it runs, which the fake-quantized model does not."""
    return layer in plan.floats and not plan.weights[layer].is_float and not plan.weights[layer].decoded


def check_weights(model: Any, linear: Sequence[LinearOp], plan: Plan) -> None:
    """Compares every weight integer and scale of the file with the plan.

    Raises:
        GateFailed: naming the layer that differs.
    """
    by_name = {op.name: op for op in linear}
    layers = metadata.read(model)["operators"]
    for op in fb.ops(model):
        entry = layers.get(str(op.index))
        if entry is None:
            continue
        planned = plan.weights[entry["layer"]]
        if planned.is_float or planned.affine is None:
            continue
        tensor = encoded_weights(model, op)
        wanted = planned.integers(by_name[entry["layer"]].kernel)
        if fb.type_name(tensor) != f"INT{stored_bits(planned.bits)}" or not np.array_equal(
            fb.array(model, tensor), wanted
        ):
            raise GateFailed(
                f"layer '{entry['layer']}': the file's weights are not the plan's {planned.bits}-bit integers"
            )
        if not np.array_equal(weight_scales(model, tensor)[0], planned.affine.scale):
            raise GateFailed(f"layer '{entry['layer']}': the file's weight scales are not the plan's")


def compared_tensors(model: Any) -> list[tuple[int, Any]]:
    """Tensors to compare: the outputs, or what enters the operator with a fixed scale that makes them."""
    graph = model.subgraphs[0]
    makers = {int(i): operator for operator in graph.operators for i in operator.outputs}
    found = []
    for output in graph.outputs:
        index = int(output)
        while index in makers and fb.op_name(model, makers[index]) in (*_FIXED_SCALE_OPS, "DEQUANTIZE"):
            index = int(makers[index].inputs[0])
        found.append((index, graph.tensors[index]))
    return found


def longest_path(model: Any) -> int:
    """Operators that requantize on the longest way from an input to an output; those of `_TIES` count as said there."""
    depth: dict[int, int] = {}
    for op in fb.ops(model):
        reads = max((depth.get(id(t), 0) for t in op.inputs if t is not None), default=0)
        own = (
            not all(np.array_equal(fb.scales(t), fb.scales(op.inputs[0])) for t in op.outputs)
            if op.inputs and op.inputs[0]
            else True
        )
        for tensor in op.outputs:
            depth[id(tensor)] = reads + _TIES.get(op.name, int(own))
    return max(depth.values(), default=1)


def _argmax_agreement(a: np.ndarray, b: np.ndarray) -> int:
    flat_a, flat_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return int((flat_a.argmax(axis=1) == flat_b.argmax(axis=1)).sum())


def _loads(data: bytes, runtime: str) -> str:
    try:
        open_model(data, runtime=runtime)
    except DeviceFailed as error:
        return first_line(error)
    return "loads"
