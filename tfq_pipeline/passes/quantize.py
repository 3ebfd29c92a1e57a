"""Uniform quantization (Jacob et al. 2018): turns ranges and a request for each layer into a Plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tfq_pipeline.calibration import WEIGHT_RANGES
from tfq_pipeline.errors import BadInput, UnsupportedLayer
from tfq_pipeline.graph.protocol import Graph, LinearOp, Tensor
from tfq_pipeline.numerics.affine import EMPTY_RANGE, Affine, channel_rows, from_range, spread
from tfq_pipeline.numerics.grouping import to_groups
from tfq_pipeline.passes.calibrate import Calibration, Range, scale_source, shared_scales
from tfq_pipeline.plan import FLOAT, Granularity, Plan, TensorPlan
from tfq_pipeline.tflite.operators import (
    FIXED_SCALE_16,
    GROUPED,
    INT4_KERNELS,
    LEAST_GROUPED_INPUTS,
    ROUNDED_ZERO_POINT,
    SCALE_PER_CHANNEL,
    SUMS_OF_GROUPS,
    Reads,
)

# The fewest bits of the model's inputs: whoever calls it fills them, and clips to what the type holds. And of what
# kernels of `ROUNDED_ZERO_POINT` write.
_LEAST_BITS = 8

# Leaves a bias of int32 one bit of room for the sum it is added to.
_LARGEST_BIAS = 2.0**30

# Steps of an output that a step of a sum may be: kernels multiply by less than 256.
_LARGEST_MULTIPLIER = 255.0

# The largest scale of a group: of half precision, with a mantissa of 7 bits.
_LARGEST_HALF = 65280.0

# A scale that is no smaller than this has an inverse, and a product with another, in float32.
_LEAST_SCALE = 2.0**-60


@dataclass(frozen=True)
class Request:
    """What a recipe asks of one tensor.

    Attributes:
        bits: 2 to 8 for weights, 2 to 8 or 16 for activations.
        symmetric: whether zero point 0 is forced.
        granularity: what one scale covers.
        group_size: input channels that share a scale, for granularity "group".
        decoded: for weights of a layer with float activations, see `TensorPlan`.
        range: for weights, how the range is found: a name in `calibration.WEIGHT_RANGES`.
    """

    bits: int
    symmetric: bool
    granularity: Granularity = "tensor"
    group_size: int | None = None
    decoded: bool = False
    range: str = "minmax"


@dataclass(frozen=True)
class LayerRequest:
    """What a recipe asks of one layer.

    Attributes:
        weights: None leaves them float.
        activations: None lets the layer read and write floats: a float layer where its weights are float, else dynamic
            range or weight-only.
    """

    weights: Request | None
    activations: Request | None


def quantize(
    graph: Graph, calibration: Calibration | None, request: Callable[[str, str, str | None], LayerRequest]
) -> Plan:
    """The plan for a folded graph.

    Args:
        graph: without batch normalization.
        calibration: ranges by tensor; None where no activation is quantized.
        request: given layer name, layer type and TFLite op (None for layers without weights), says what the recipe
            asks.

    Raises:
        BadInput: for batch norm that is not folded, weights with NaN or infinity, or tensors without a range.
        UnsupportedLayer: for a layer that has no integer operator and that the recipe does not skip.
    """
    if graph.batch_norms():
        raise BadInput(
            f"layer '{graph.batch_norms()[0]}' (BatchNormalization): not folded; "
            "put fold_batch_norm before quantize in the recipe"
        )
    linear = {op.name: op for op in graph.linear_ops()}
    tensors = graph.tensors()
    asked = {t.name: request(t.name, t.type, linear[t.name].op if t.name in linear else None) for t in tensors}
    activations: dict[str, TensorPlan] = {}
    floats: set[str] = set()
    reasons: dict[str, str] = {}
    wanted = _activation_requests(tensors, asked)
    inputs = {spec.name for spec in graph.inputs}
    least = dict.fromkeys(inputs, "inputs of a model")
    least.update({t.name: f"outputs of {t.op}" for t in tensors if t.op in ROUNDED_ZERO_POINT})
    for name in set(least) & set(wanted):
        if wanted[name].bits < _LEAST_BITS:
            wanted[name] = replace(wanted[name], bits=_LEAST_BITS)
            reasons[name] = f"{least[name]} have {_LEAST_BITS} bits or more"
    if calibration is not None:
        calibration = replace(calibration, ranges=_filled(tensors, calibration.ranges))
    for tensor in tensors:
        if asked[tensor.name].activations is None and tensor.name not in inputs:
            floats.add(tensor.name)
            if asked[tensor.name].weights is None:
                reasons[tensor.name] = "the recipe skips it"
        elif tensor.float_only is not None:
            raise UnsupportedLayer(
                tensor.name, tensor.type, tensor.float_only, "replace it, or leave it float with a rule that skips it"
            )
        if tensor.name in wanted:
            activations[tensor.name] = activation_plan(tensor, calibration, wanted[tensor.name])
    weights: dict[str, TensorPlan] = {}
    for op in linear.values():
        spec = asked[op.name].weights
        source = None if op.name in floats else read_by_kernels(activations[scale_source(tensors, op.input)])
        if spec is None:
            weights[op.name] = FLOAT
            continue
        spec, why = runnable(op, spec, source)
        if why is not None:
            reasons[op.name] = why
        weights[op.name] = planned = weight_plan(op, spec, source)
        if source is not None and planned.affine is not None:
            activations.update(_with_room(op, source, planned.affine, tensors, activations))
    return Plan(weights, activations, frozenset(floats), reasons)


def _filled(tensors: Sequence[Tensor], ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The ranges, with those of tensors that were always 0 replaced by that of a tensor computed from or with them.

    Any range holds 0; but kernels that add or join tensors want their scales to be of like size.
    """
    found = dict(ranges)
    empty = {name for name, (low, high) in ranges.items() if max(-low, high) < EMPTY_RANGE}
    if not empty:
        return found
    beside: dict[str, list[str]] = {name: [] for name in empty}
    for tensor in tensors:
        joined = [scale_source(tensors, name) for name in (tensor.name, *tensor.reads)]
        for name in empty.intersection(joined):
            beside[name] += [other for other in joined if other in ranges]
    while filled := {name: full for name in empty if (full := set(beside[name]) - empty)}:
        found.update({name: max((found[n] for n in full), key=lambda r: r[1] - r[0]) for name, full in filled.items()})
        empty -= set(filled)
    return found


def _with_room(
    op: LinearOp, source: Affine, weights: Affine, tensors: Sequence[Tensor], activations: Mapping[str, TensorPlan]
) -> dict[str, TensorPlan]:
    """What an operator writes, and what shares its scale, with a step that kernels can reach from the sum's.

    The sum's step is the input's times the weight's. An output that is finer by far was seen to be next to nothing,
    and the values between two steps of the sum do not occur: a coarser one loses nothing.

    Raises:
        BadInput: where an activation limits the output, so that the input is what is too large.
    """
    output = scale_source(tensors, op.output)
    planned = activations.get(output)
    if planned is None or planned.affine is None:
        return {}
    least = float(source.scale[0]) * float(weights.scale.max()) / _LARGEST_MULTIPLIER
    if planned.affine.scale[0] >= least:
        return {}
    if op.activation not in (None, "RELU"):
        raise BadInput(
            f"layer '{op.name}' ({op.type}): reads values in steps of {source.scale[0]:.3g} and writes some in steps "
            f"of {planned.affine.scale[0]:.3g}, further apart than integer kernels compute; "
            "bring the data that it is calibrated with into the range that the model was trained on"
        )
    sharing = next((group for group in shared_scales(tuple(tensors)) if output in group), (output,))
    wide = replace(planned, affine=replace(planned.affine, scale=np.array([least], np.float32)))
    return dict.fromkeys((name for name in sharing if name in activations), wide)


def _activation_requests(tensors: Sequence[Tensor], asked: Mapping[str, LayerRequest]) -> dict[str, Request]:
    """What is asked of each tensor with a scale of its own that is quantized: by the layer that writes it, else by
    one that reads it as integers."""
    found: dict[str, Request] = {}
    for tensor in tensors:
        own = asked[tensor.name].activations
        if own is not None:
            found[scale_source(tensors, tensor.name)] = own
    for tensor in tensors:
        own = asked[tensor.name].activations
        if own is not None:
            for name in tensor.reads:
                found.setdefault(scale_source(tensors, name), own)
    return found


def runnable(op: LinearOp, asked: Request, source: Affine | None) -> tuple[Request, str | None]:
    """What is asked of weights in a form that runtimes have kernels for, and why where that is something else."""
    if source is None:
        reads: Reads = "decoded" if asked.decoded else "dynamic"
    else:
        reads = "int8" if source.bits <= 8 else "int16"
    why = None
    if asked.group_size is not None:
        grouped = op.op in GROUPED and reads == "dynamic" and asked.bits <= 4
        inputs = op.kernel.shape[-1]
        if not grouped or inputs % asked.group_size or inputs < LEAST_GROUPED_INPUTS:
            shape = "x".join(map(str, op.kernel.shape))
            why = f"no kernel of {op.op} reads {shape} weights of {asked.bits} bits in groups of {asked.group_size}"
        elif np.abs(op.kernel).max() > _LARGEST_HALF * (2 ** (asked.bits - 1) - 1):
            why = "a weight is too large for scales in half precision"
        if why is not None:
            why = f"{why}: one scale a channel"
            asked = replace(asked, granularity="channel", group_size=None)
    if asked.bits <= 4 and reads not in INT4_KERNELS[op.op]:
        why = f"no kernel of {op.op} reads 4-bit weights beside {reads} activations: 8 bits"
        asked = replace(asked, bits=8)
    if asked.granularity == "tensor" and reads == "dynamic" and op.op in SCALE_PER_CHANNEL:
        why = f"kernels of {op.op} beside dynamic activations read one scale a channel"
        asked = replace(asked, granularity="channel")
    if not asked.symmetric and reads != "decoded" and (reads != "dynamic" or op.op not in SUMS_OF_GROUPS):
        why = f"no kernel of {op.op} reads zero points of weights beside {reads} activations: symmetric"
        asked = replace(asked, symmetric=True)
    return asked, why


def weight_plan(op: LinearOp, asked: Request, source: Affine | None) -> TensorPlan:
    """Scales of weights: symmetric with a narrow range, as TFLite's int8 specification has them, or with zero points.

    Args:
        op: the layer.
        asked: bits, granularity and how the range is found.
        source: parameters of the activation it reads, None where that is float.
    """
    axis = {"tensor": None, "channel": op.channel_axis, "group": 0}[asked.granularity]
    try:
        kernel = op.kernel if asked.group_size is None else to_groups(op.kernel, asked.group_size)
        low, high = WEIGHT_RANGES[asked.range](channel_rows(kernel, axis), asked.bits, asked.symmetric)
        # Beside activations that it quantizes when it runs, a built-in kernel computes nonsense for -8.
        narrow = asked.symmetric or (source is None and not asked.decoded and asked.group_size is None)
        affine = from_range(low, high, asked.bits, symmetric=asked.symmetric, narrow=narrow, axis=axis)
    except ValueError as error:
        raise BadInput(f"layer '{op.name}' ({op.type}): weights: {error}; train or export the model again") from error
    affine = with_legal_scales(op, affine, source, asked.group_size)
    return TensorPlan(
        asked.bits, "uniform", asked.granularity, affine, group_size=asked.group_size, decoded=asked.decoded
    )


def with_legal_scales(op: LinearOp, affine: Affine, source: Affine | None, group_size: int | None) -> Affine:
    """Scales of weights that a file can hold.

    A channel of nearly dead weights with a large bias gets a scale at which its bias still fits in int32.

    Args:
        op: the layer.
        affine: parameters of its weights.
        source: parameters of the activation it reads, None where that is float.
        group_size: input channels that share a scale, None unless weights are grouped.
    """
    if source is not None and np.abs(op.kernel).max() < EMPTY_RANGE:
        # All that a layer of dead weights writes is its bias: the finest scale is the best.
        affine = replace(affine, scale=np.full_like(affine.scale, _LEAST_SCALE))
    if source is not None and op.bias is not None:
        if not np.isfinite(op.bias).all():
            raise BadInput(
                f"layer '{op.name}' ({op.type}): its bias has NaN or infinity; train or export the model again"
            )
        largest = np.abs(op.bias) if affine.axis is not None else np.abs(op.bias).max()
        least = (largest / (float(source.scale[0]) * _LARGEST_BIAS)).astype(np.float32)
        affine = replace(affine, scale=np.maximum(affine.scale, least))
    if group_size is not None:
        # The file holds scales of groups in half precision.
        affine = replace(affine, scale=half_precision(affine.scale))
    return affine


def widened(graph: Graph, plan: Plan, bits: int) -> dict[str, TensorPlan]:
    """By layer that has fewer, what its weights are planned as with so many bits and one scale a channel."""
    tensors = graph.tensors()
    found = {}
    for op in graph.linear_ops():
        planned = plan.weights[op.name]
        if planned.is_float or planned.bits >= bits:
            continue
        read = None if op.name in plan.floats else plan.activations.get(scale_source(tensors, op.input))
        asked = Request(bits, symmetric=True, granularity="channel", decoded=planned.decoded)
        source = None if read is None else read_by_kernels(read)
        found[op.name] = replace(weight_plan(op, asked, source), kept=planned.kept)
    return found


def read_by_kernels(planned: TensorPlan) -> Affine | None:
    """The integers in which a linear operator reads an activation; None where that is float."""
    return None if planned.affine is None else spread(planned.affine)


def half_precision(scale: np.ndarray) -> np.ndarray:
    """Scales as every runtime uses those of groups: stored in float16, of which XNNPACK keeps a mantissa of 7 bits.

    float32 of the same shape, positive and finite.
    """
    limits = np.finfo(np.float16)
    mantissa, exponent = np.frexp(np.clip(scale, limits.smallest_normal, limits.max).astype(np.float64))
    short = np.ldexp(np.round(mantissa * 256.0) / 256.0, exponent)
    return np.minimum(short, _LARGEST_HALF).astype(np.float32)


def activation_plan(tensor: Tensor, calibration: Calibration | None, asked: Request) -> TensorPlan:
    """Range to scale and zero point; where TFLite fixes them, those."""
    if tensor.fixed is not None:
        bits = max(8, asked.bits)
        scale, zero_point = tensor.fixed if bits == 8 else (FIXED_SCALE_16, 0)
        affine = Affine(
            bits, np.array([scale], np.float32), np.array([zero_point], np.int32), None, zero_point == 0, False
        )
        return TensorPlan(bits, "uniform", "tensor", affine)
    if calibration is None or tensor.name not in calibration.ranges:
        raise BadInput(
            f"layer '{tensor.name}' ({tensor.type}): has no range; put calibrate before quantize in the recipe"
        )
    low, high = calibration.ranges[tensor.name]
    affine = from_range(low, high, asked.bits, symmetric=asked.symmetric)
    return TensorPlan(asked.bits, "uniform", "tensor", affine)
