"""Layers that compute with several weight matrices or along one dimension, as the plain layers they are made of.

Each rule stands in a table by the layer's class; see `ir.Rule`. Afterwards every weight matrix is that of a
convolution or dense layer, which has integer operators, and every step between them has a tensor of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfq_pipeline.importers.ir import Call, Emitter, Layer, Ref, TensorType

# Steps that a recurrent layer is unrolled to at most: each becomes some fifteen operators.
MOST_STEPS = 64

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class _Parts:
    """Emits what stands for one call."""

    call: Call
    emit: Emitter

    @property
    def config(self) -> Mapping[str, Any]:
        return self.call.layer.config

    def shape(self, ref: Ref) -> Shape:
        """Of a tensor whose rank is known."""
        return self.emit.type_of(ref).shape or ()

    def add(
        self, kind: str, name: str, config: Mapping[str, Any], args: Any, shape: Sequence[int | None], *weights: Any
    ) -> Ref:
        """One layer; of one name it is the same one at every call of the layer that it is a part of."""
        whole = self.call.layer
        layer = self.emit.derived(
            whole, name, lambda: Layer(kind, config, f"{whole.name}_{name}", whole.origin, tuple(weights))
        )
        return self.emit.apply(layer, (args,), (TensorType(tuple(shape)),))[0]

    def op(self, op: str, name: str, args: tuple[Any, ...], shape: Sequence[int | None], **arguments: Any) -> Ref:
        layer = Layer(
            "Op", {"op": op, "arguments": arguments}, f"{self.call.layer.name}_{name}", self.call.layer.origin
        )
        return self.emit.apply(layer, args, (TensorType(tuple(shape)),))[0]

    def dense(self, name: str, x: Ref, kernel: np.ndarray, bias: np.ndarray | None) -> Ref:
        """x times a kernel [in, out] along the last axis."""
        config = {"units": kernel.shape[1], "use_bias": bias is not None, "activation": "linear"}
        weights = (kernel,) if bias is None else (kernel, bias)
        return self.add("Dense", name, config, x, (*self.shape(x)[:-1], kernel.shape[1]), *weights)

    def reshape(self, name: str, x: Ref, shape: Sequence[int | None]) -> Ref:
        """To a shape with its batch dimension, of whose others one may be free."""
        target = tuple(-1 if n is None else n for n in shape[1:])
        return self.add("Reshape", name, {"target_shape": target}, x, shape)

    def permute(self, name: str, x: Ref, *dims: int) -> Ref:
        """Axes counted from 1, as Keras has them."""
        given = self.shape(x)
        return self.add("Permute", name, {"dims": dims}, x, (given[0], *(given[d] for d in dims)))


def decompose(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    """The rule: a layer of `DECOMPOSITIONS` as its parts."""
    make = DECOMPOSITIONS.get(call.layer.kind)
    return None if make is None else make(_Parts(call, emit))


def _number(value: Any) -> int:
    return int(np.ravel(value)[0])


def _separable(rank: int) -> Callable[[_Parts], Sequence[Ref] | None]:
    """A depthwise convolution, and one of kernel size 1."""

    def make(parts: _Parts) -> Sequence[Ref] | None:
        config, (depthwise, *pointwise) = parts.config, parts.call.layer.weights
        kept = ("kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier")
        first = {**{key: config[key] for key in kept}, "use_bias": False, "activation": "linear"}
        second = {
            **{key: config[key] for key in ("filters", "use_bias", "activation")},
            "kernel_size": (1,) * rank,
        }
        shape = parts.call.types[0].shape or (None,) * (rank + 2)
        middle = (*shape[:-1], int(np.prod(depthwise.shape[-2:])))
        x = parts.add(f"DepthwiseConv{rank}D", "depthwise", first, parts.call.args[0], middle, depthwise)
        return [parts.add(f"Conv{rank}D", "pointwise", second, x, shape, *pointwise)]

    return make


def _as_image(parts: _Parts, kind: str, config: Mapping[str, Any]) -> Sequence[Ref] | None:
    """A 1-D convolution as the 2-D one of an image that is one pixel high."""
    (x,), shape = parts.call.args, parts.call.types[0].shape
    if shape is None or len(parts.shape(x)) != 3:
        return None
    if parts.config["padding"] == "causal":
        front = (_number(parts.config["kernel_size"]) - 1) * _number(parts.config["dilation_rate"])
        length = parts.shape(x)[1]
        padded = (None, None if length is None else length + front, parts.shape(x)[2])
        x = parts.add("ZeroPadding1D", "padding", {"padding": (front, 0)}, x, padded)
    high = parts.reshape("image", x, (None, 1, *parts.shape(x)[1:]))
    kernel, *bias = parts.call.layer.weights
    padding = "valid" if parts.config["padding"] == "causal" else parts.config["padding"]
    wide = {**config, "padding": padding, **{key: parts.config[key] for key in ("use_bias", "activation")}}
    y = parts.add(kind, "2d", wide, high, (None, 1, *shape[1:]), kernel[None], *bias)
    return [parts.reshape("row", y, shape)]


def _depthwise_1d(parts: _Parts) -> Sequence[Ref] | None:
    config = parts.config
    # Kernels of depthwise convolutions have one stride for both directions.
    strides = (_number(config["strides"]),) * 2
    return _as_image(
        parts,
        "DepthwiseConv2D",
        {
            "kernel_size": (1, _number(config["kernel_size"])),
            "strides": strides,
            "dilation_rate": (1, _number(config["dilation_rate"])),
            "depth_multiplier": config["depth_multiplier"],
        },
    )


def _transposed_1d(parts: _Parts) -> Sequence[Ref] | None:
    config = parts.config
    padding = config.get("output_padding")
    return _as_image(
        parts,
        "Conv2DTranspose",
        {
            "filters": config["filters"],
            "kernel_size": (1, _number(config["kernel_size"])),
            "strides": (1, _number(config["strides"])),
            "dilation_rate": (1, _number(config["dilation_rate"])),
            "output_padding": None if padding is None else (0, _number(padding)),
        },
    )


def _einsum_dense(parts: _Parts) -> Sequence[Ref] | None:
    """Dense, where the equation sums over the last axes of the input and the first of the kernel."""
    given, rest = parts.config["equation"].replace("...", "").replace(" ", "").split(",")
    summed, wanted = rest.split("->")
    (x,), shape = parts.call.args, parts.call.types[0].shape
    kernel, *bias = parts.call.layer.weights
    common = next(
        (n for n in range(1, len(summed)) if given.endswith(summed[:n]) and wanted.endswith(summed[n:])), None
    )
    if common is None or shape is None or given[:-common] != wanted[: -len(summed) + common]:
        return None
    into, out = math.prod(kernel.shape[:common]), kernel.shape[common:]
    biases = None
    if bias:
        axes = [summed[common:].find(axis) for axis in parts.config["bias_axes"]]
        if -1 in axes or axes != sorted(axes):
            return None
        lies = [out[axis] if axis in axes else 1 for axis in range(len(out))]
        biases = np.broadcast_to(bias[0].reshape(lies), out).reshape(-1)
    before = parts.shape(x)[: len(parts.shape(x)) - common]
    if before[1:].count(None) > 1:
        return None
    if common > 1:
        x = parts.reshape("flat", x, (*before, into))
    y = parts.dense("dense", x, kernel.reshape(into, -1), biases)
    y = parts.reshape("parted", y, (*before, *out)) if len(out) > 1 else y
    activation = parts.config.get("activation", "linear")
    return [y if activation == "linear" else parts.add("Activation", activation, {"activation": activation}, y, shape)]


def _masked(parts: _Parts) -> bool:
    """Whether a mask may reach the call."""
    return any(call.layer.kind == "Masking" or call.layer.config.get("mask_zero") for call in parts.emit.calls.values())


def _multi_head_attention(parts: _Parts) -> Sequence[Ref] | None:
    """Vaswani 2017, section 3.2.2; 1 / sqrt(d) goes into the weights of the queries."""
    config, kwargs, weights = parts.config, dict(parts.call.kwargs), parts.call.layer.weights
    query, value = parts.call.args[0], kwargs.pop("value", None)
    key = kwargs.pop("key", value)
    plain = not any(v is not None and v is not False for v in kwargs.values())
    output = weights[-2 if config.get("use_bias", True) else -1]
    shapes = [parts.shape(ref) for ref in (query, value) if isinstance(ref, Ref)]
    if not plain or _masked(parts) or output.ndim != 3 or len(parts.call.types) != 1 or len(shapes) != 2:
        return None
    if any(len(shape) != 3 or shape[1] is None for shape in shapes):
        return None
    (_, asked, _), (_, told, _) = shapes
    step = 2 if config.get("use_bias", True) else 1
    (q, k, v, out) = (weights[i : i + step] for i in range(0, 4 * step, step))
    heads, depth = q[0].shape[1:]
    scaled = [w / np.sqrt(np.float32(depth)) for w in q]

    def projected(name: str, x: Ref, own: Sequence[np.ndarray], length: int | None, *dims: int) -> Ref:
        kernel = own[0].reshape(own[0].shape[0], -1)
        y = parts.dense(name, x, kernel, own[1].reshape(-1) if step == 2 else None)
        return parts.permute(
            f"{name}_by_head", parts.reshape(f"{name}_parted", y, (None, length, *own[0].shape[1:])), *dims
        )

    queries = projected("query", query, scaled, asked, 2, 1, 3)
    keys = projected("key", key, k, told, 2, 3, 1)
    values = projected("value", value, v, told, 2, 1, 3)
    scores = parts.op("matmul", "scores", (queries, keys), (None, heads, asked, told))
    shares = parts.add("Softmax", "shares", {"axis": -1}, scores, (None, heads, asked, told))
    mixed = parts.op("matmul", "mixed", (shares, values), (None, heads, asked, v[0].shape[2]))
    together = parts.reshape(
        "together", parts.permute("by_place", mixed, 2, 1, 3), (None, asked, heads * v[0].shape[2])
    )
    kernel = out[0].reshape(-1, out[0].shape[2])
    return [parts.dense("output", together, kernel, out[1] if step == 2 else None)]


def _layer_normalization(parts: _Parts) -> Sequence[Ref] | None:
    """Ba 2016. The learned scale and shift are a batch norm of mean 0 and variance 1, which is folded as such."""
    (x,), config = parts.call.args, parts.config
    shape = parts.shape(x)
    axes = [a % len(shape) for a in np.atleast_1d(config.get("axis", -1))] if shape else []
    if axes != [len(shape) - 1] or shape[-1] is None or config.get("rms_scaling"):
        return None
    one = (*shape[:-1], 1)
    mean = parts.op("mean", "mean", (x,), one, axis=-1, keepdims=True)
    centred = parts.op("subtract", "centred", (x, mean), shape)
    square = parts.op("multiply", "square", (centred, centred), shape)
    variance = parts.op("mean", "variance", (square,), one, axis=-1, keepdims=True)
    above = parts.op("add", "above_zero", (variance, float(config["epsilon"])), one)
    inverse = parts.op("rsqrt", "inverse_deviation", (above,), one)
    normal = parts.op("multiply", "normal", (centred, inverse), shape)
    given = list(parts.call.layer.weights)
    if not given:
        return [normal]
    flags = {"center": config.get("center", True), "scale": config.get("scale", True), "epsilon": 0.0}
    weights = (*given, np.zeros(shape[-1], np.float32), np.ones(shape[-1], np.float32))
    return [parts.add("BatchNormalization", "affine", flags, normal, shape, *weights)]


# A step of a recurrent layer: the parts, a name for the step, its input's share of the gates and the state before; it
# gives the state after, whose first tensor is the output.
_Step = Callable[[_Parts, str, Ref, tuple[Ref, ...]], tuple[Ref, ...]]


def _slice(parts: _Parts, name: str, x: Ref, position: int, units: int) -> Ref:
    key = [{"slice": [None, None, None]}, {"slice": [position * units, (position + 1) * units, None]}]
    return parts.op("get_item", name, (x,), (None, units), key=key)


def _activated(parts: _Parts, name: str, x: Ref, activation: str) -> Ref:
    # Recurrent layers keep Keras 2's names; its hard sigmoid is another function than Keras 3's.
    called = {"hard_sigmoid": "keras2_hard_sigmoid"}.get(activation, activation)
    return parts.add("Activation", name, {"activation": called}, x, parts.shape(x))


def _pair(parts: _Parts, kind: str, name: str, a: Ref, b: Ref) -> Ref:
    return parts.add(kind, name, {}, [a, b], parts.shape(a))


def _simple_step(parts: _Parts, at: str, given: Ref, state: tuple[Ref, ...]) -> tuple[Ref, ...]:
    recurrent = parts.dense("recurrent", state[0], parts.call.layer.weights[1], None)
    summed = _pair(parts, "Add", f"{at}_sum", given, recurrent)
    return (_activated(parts, f"{at}_output", summed, parts.config["activation"]),)


def _lstm_step(parts: _Parts, at: str, given: Ref, state: tuple[Ref, ...]) -> tuple[Ref, ...]:
    """Hochreiter 1997 with forget gates; gates in Keras's order: input, forget, cell, output."""
    before, cell = state
    units, inner, outer = parts.config["units"], parts.config["recurrent_activation"], parts.config["activation"]
    recurrent = parts.dense("recurrent", before, parts.call.layer.weights[1], None)
    summed = _pair(parts, "Add", f"{at}_sum", given, recurrent)

    def gate(name: str, position: int, activation: str) -> Ref:
        return _activated(parts, f"{at}_{name}", _slice(parts, f"{at}_{name}_sum", summed, position, units), activation)

    written = _pair(parts, "Multiply", f"{at}_written", gate("input", 0, inner), gate("candidate", 2, outer))
    kept = _pair(parts, "Multiply", f"{at}_kept", gate("forget", 1, inner), cell)
    cell = _pair(parts, "Add", f"{at}_cell", kept, written)
    shown = _activated(parts, f"{at}_shown", cell, outer)
    return _pair(parts, "Multiply", f"{at}_output", gate("output_gate", 3, inner), shown), cell


def _gru_step(parts: _Parts, at: str, given: Ref, state: tuple[Ref, ...]) -> tuple[Ref, ...]:
    """Cho 2014; gates in Keras's order: update, reset, candidate. The new state is c + z (h - c)."""
    (before,), units = state, parts.config["units"]
    inner, outer, kernel = parts.config["recurrent_activation"], parts.config["activation"], parts.call.layer.weights[1]
    bias = parts.call.layer.weights[2][1] if parts.config["use_bias"] and parts.config["reset_after"] else None
    together = 3 if parts.config["reset_after"] else 2
    recurrent = parts.dense("recurrent", before, kernel[:, : together * units], bias)

    def gate(name: str, position: int) -> Ref:
        ours, theirs = (
            _slice(parts, f"{at}_{name}_{of}", x, position, units) for of, x in (("x", given), ("h", recurrent))
        )
        return _activated(parts, f"{at}_{name}", _pair(parts, "Add", f"{at}_{name}_sum", ours, theirs), inner)

    update, reset = gate("update", 0), gate("reset", 1)
    if parts.config["reset_after"]:
        remembered = _pair(
            parts, "Multiply", f"{at}_remembered", reset, _slice(parts, f"{at}_past", recurrent, 2, units)
        )
    else:
        chosen = _pair(parts, "Multiply", f"{at}_remembered", reset, before)
        remembered = parts.dense("recurrent_candidate", chosen, kernel[:, 2 * units :], None)
    present = _slice(parts, f"{at}_present", given, 2, units)
    candidate = _activated(
        parts, f"{at}_candidate", _pair(parts, "Add", f"{at}_candidate_sum", present, remembered), outer
    )
    difference = _pair(parts, "Subtract", f"{at}_difference", before, candidate)
    moved = _pair(parts, "Multiply", f"{at}_moved", update, difference)
    return (_pair(parts, "Add", f"{at}_output", candidate, moved),)


def _recurrent(step: _Step, states: int) -> Callable[[_Parts], Sequence[Ref] | None]:
    """The layer unrolled over its sequence: one dense layer for all inputs, one for the state, called at every step."""

    def make(parts: _Parts) -> Sequence[Ref] | None:
        config, shape = parts.config, parts.shape(parts.call.args[0])
        special = config.get("return_state") or config.get("stateful") or config.get("time_major")
        if special or parts.call.kwargs or _masked(parts) or len(shape) != 3:
            return None
        length = shape[1]
        if length is None or length > MOST_STEPS:
            return None
        kernel, _, *bias = parts.call.layer.weights
        # A GRU's second row of biases belongs to its state.
        given = parts.dense(
            "inputs", parts.call.args[0], kernel, bias[0].reshape(-1, kernel.shape[1])[0] if bias else None
        )
        order = range(length - 1, -1, -1) if config.get("go_backwards") else range(length)
        every = {"slice": [None, None, None]}
        at = [parts.op("get_item", f"step{t}_inputs", (given,), (None, kernel.shape[1]), key=[every, t]) for t in order]
        first = _slice(parts, "first", at[0], 0, config["units"])
        state = (parts.op("multiply", "start", (first, 0.0), (None, config["units"])),) * states
        outputs = []
        for t, present in zip(order, at, strict=True):
            state = step(parts, f"step{t}", present, state)
            outputs.append(state[0])
        if not config.get("return_sequences"):
            return [outputs[-1]]
        return [parts.op("stack", "sequence", tuple(outputs), (None, length, config["units"]), axis=1)]

    return make


_MERGED = {"sum": "Add", "mul": "Multiply", "ave": "Average", "concat": "Concatenate"}


def _bidirectional(parts: _Parts) -> Sequence[Ref] | None:
    """Two layers, the second over the reversed sequence."""
    config, mode = parts.config, parts.config.get("merge_mode")
    forward = config["layer"]
    backward = config.get("backward_layer") or forward
    kinds = {entry["class_name"] for entry in (forward, backward)}
    if (
        mode not in _MERGED
        or parts.call.kwargs
        or not kinds <= _RECURRENT.keys()
        or forward["config"].get("return_state")
    ):
        return None
    weights = parts.call.layer.weights
    half = len(weights) // 2
    (x,), shape = parts.call.args, parts.call.types[0].shape or ()
    own = (*shape[:-1], forward["config"]["units"])
    reversed_ = bool(forward["config"].get("go_backwards"))
    ahead = parts.add(forward["class_name"], "forward", forward["config"], x, own, *weights[:half])
    turned = {**backward["config"], "go_backwards": not reversed_}
    behind = parts.add(backward["class_name"], "backward", turned, x, own, *weights[half:])
    if forward["config"].get("return_sequences"):
        behind = parts.op("flip", "in_order", (behind,), own, axis=1)
    return [parts.add(_MERGED[mode], "merged", {}, [ahead, behind], shape)]


_RECURRENT: Mapping[str, Callable[[_Parts], Sequence[Ref] | None]] = {
    "GRU": _recurrent(_gru_step, 1),
    "LSTM": _recurrent(_lstm_step, 2),
    "SimpleRNN": _recurrent(_simple_step, 1),
}

DECOMPOSITIONS: Mapping[str, Callable[[_Parts], Sequence[Ref] | None]] = {
    "Bidirectional": _bidirectional,
    "Conv1DTranspose": _transposed_1d,
    "DepthwiseConv1D": _depthwise_1d,
    "EinsumDense": _einsum_dense,
    "LayerNormalization": _layer_normalization,
    "MultiHeadAttention": _multi_head_attention,
    "SeparableConv1D": _separable(1),
    "SeparableConv2D": _separable(2),
    **_RECURRENT,
}
