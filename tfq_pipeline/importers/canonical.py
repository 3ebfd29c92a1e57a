"""Rewrites the flat form into the one form that the rest of the pipeline reads.

Each rule looks at one call and what made its inputs; see `ir.Rule`. Afterwards:
no layer that does nothing at inference is left; activations other than relu and relu6 stand in layers of their own;
layers that can be taken apart are (see `decompose`); operations that a plain layer can say are that layer;
hard sigmoid and hard swish are one layer each, however they were spelled.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfq_pipeline.errors import UnsupportedLayer
from tfq_pipeline.importers.activations import ACTIVATIONS, FUSED
from tfq_pipeline.importers.decompose import decompose
from tfq_pipeline.importers.ir import Call, Emitter, Flat, Layer, Ref, refs_in, rewrite

LOG = logging.getLogger(__name__)

# Layers that pass their input through at inference.
IDENTITY = frozenset(
    {
        "ActivityRegularization",
        "AlphaDropout",
        "Dropout",
        "GaussianDropout",
        "GaussianNoise",
        "Identity",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "AugMix",
        "CutMix",
        "MixUp",
        "RandAugment",
        "RandomBrightness",
        "RandomColorDegeneration",
        "RandomColorJitter",
        "RandomContrast",
        "RandomElasticTransform",
        "RandomErasing",
        "RandomFlip",
        "RandomGaussianBlur",
        "RandomGrayscale",
        "RandomHeight",
        "RandomHue",
        "RandomInvert",
        "RandomPerspective",
        "RandomPosterization",
        "RandomRotation",
        "RandomSaturation",
        "RandomSharpness",
        "RandomShear",
        "RandomTranslation",
        "RandomWidth",
        "RandomZoom",
    }
)

# Layers whose activation argument a later stage would otherwise have to see through.
WITH_ACTIVATION = (
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "EinsumDense",
    "LocallyConnected1D",
    "LocallyConnected2D",
    "SeparableConv1D",
    "SeparableConv2D",
)

# Operation of two tensors of one rank -> layer.
MERGES = {
    "add": "Add",
    "subtract": "Subtract",
    "multiply": "Multiply",
    "maximum": "Maximum",
    "minimum": "Minimum",
}


def canonical(flat: Flat) -> Flat:
    """The canonical form. Idempotent.

    Raises:
        UnsupportedLayer: a layer keeps its channels first.
    """
    return rewrite(flat, RULES)


def _refuse_channels_first(call: Call, _emit: Emitter) -> None:
    settings = call.layer.config["arguments"] if call.layer.kind == "Op" else call.layer.config
    if settings.get("data_format") == "channels_first":
        raise UnsupportedLayer(
            call.layer.origin,
            call.layer.kind,
            "it keeps its channels first, which TensorFlow Lite does not run",
            "build the model with data_format='channels_last'",
        )


def _drop_identity(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    kind = call.layer.kind
    linear = kind == "Activation" and call.layer.config.get("activation") == "linear"
    if kind not in IDENTITY and not linear and not _pools_one_pixel(call, emit):
        return None
    LOG.info("layer '%s' (%s) does nothing at inference: dropped", call.layer.origin, kind)
    return tuple(refs_in(list(call.args)))


def _pools_one_pixel(call: Call, emit: Emitter) -> bool:
    if call.layer.kind not in ("GlobalAveragePooling2D", "GlobalMaxPooling2D") or not call.layer.config.get("keepdims"):
        return False
    shape = emit.type_of(call.args[0]).shape
    return shape is not None and shape[1:3] == (1, 1)


def _split_activation(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    """Dense(activation="softmax") -> Dense, Softmax."""
    name = call.layer.config.get("activation", "linear")
    if call.layer.kind not in WITH_ACTIVATION or name in FUSED:
        return None
    bare = emit.derived(
        call.layer, "linear", lambda: replace(call.layer, config={**call.layer.config, "activation": "linear"})
    )
    (result,) = emit.apply(bare, call.args, call.types, call.kwargs)
    plain = Layer("Activation", {"activation": name}, f"{call.layer.name}_{name}", call.layer.origin)
    return emit.apply(plain, (result,), call.types)


def _activation_layer(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    """Activation("relu6") -> ReLU(max_value=6), Activation("hard_silu") -> HardSwish, ..."""
    if call.layer.kind != "Activation" or call.layer.config["activation"] not in ACTIVATIONS:
        return None
    kind, config = ACTIVATIONS[call.layer.config["activation"]]
    plain = replace(call.layer, kind=kind, config=config)
    # An Activation that stays one carries Keras 2's name from here on, and must not be read again by Keras 3's.
    if kind == "Activation":
        return emit.append(Call(-1, plain, call.args[:1], {}, call.types))
    return emit.apply(plain, call.args[:1], call.types)


def _unary_op_layer(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    """Operations of one tensor that a plain layer says: relu, softmax, clip to 0..6, reshape, mean over the image."""
    if call.layer.kind != "Op" or len(call.args) == 0 or not isinstance(call.args[0], Ref):
        return None
    make = UNARY.get(call.layer.config["op"])
    plain = None if make is None else make(call, emit)
    if plain is None:
        return None
    kind, config = plain
    result = Call(-1, replace(call.layer, kind=kind, config=config), call.args[:1], {}, call.types)
    return emit.append(result) if kind == "Activation" else emit.apply(result.layer, result.args, result.types)


Plain = tuple[str, Mapping[str, Any]]


def _as_clip(call: Call, _emit: Emitter) -> Plain | None:
    arguments = call.layer.config["arguments"]
    low = arguments["x_min"] if "x_min" in arguments else _scalar(call.args[1])
    high = arguments["x_max"] if "x_max" in arguments else _scalar(call.args[2])
    return ("ReLU", {"max_value": 6.0}) if (low, high) == (0, 6) else None


def _as_reshape(call: Call, emit: Emitter) -> Plain | None:
    """Reshape keeps the batch dimension, so only a target that starts with it fits."""
    given, wanted = emit.type_of(call.args[0]).shape, call.types[0].shape
    target = tuple(call.layer.config["arguments"]["newshape"])
    if given is None or wanted is None or not target or target[0] not in (-1, None) or wanted[0] is not None:
        return None
    sizes_in, sizes_out = [n for n in given[1:] if n is not None], [n for n in wanted[1:] if n is not None]
    free = len(sizes_in) < len(given) - 1 or len(sizes_out) < len(wanted) - 1
    if free or math.prod(sizes_in) != math.prod(sizes_out):
        return None
    return "Reshape", {"target_shape": tuple(sizes_out)}


def _as_pooling(prefix: str) -> Callable[[Call, Emitter], Plain | None]:
    def make(call: Call, emit: Emitter) -> Plain | None:
        shape = emit.type_of(call.args[0]).shape
        arguments = call.layer.config["arguments"]
        axis = arguments.get("axis")
        if shape is None or len(shape) != 4 or axis is None or arguments.get("initial") is not None:
            return None
        axes = sorted(int(a) % 4 for a in np.atleast_1d(axis))
        if axes != [1, 2]:
            return None
        return f"Global{prefix}Pooling2D", {"keepdims": bool(arguments.get("keepdims", False))}

    return make


def _as_activation(name: str) -> Callable[[Call, Emitter], Plain | None]:
    return lambda _call, _emit: ACTIVATIONS[name]


def _as_softmax(call: Call, _emit: Emitter) -> Plain | None:
    axis = call.layer.config["arguments"].get("axis", -1)
    return None if axis is None else ("Softmax", {"axis": axis})


def _as_leaky_relu(call: Call, _emit: Emitter) -> Plain | None:
    return "LeakyReLU", {"alpha": call.layer.config["arguments"].get("negative_slope", 0.2)}


def _as_elu(call: Call, _emit: Emitter) -> Plain | None:
    return "ELU", {"alpha": call.layer.config["arguments"].get("alpha", 1.0)}


def _as_gelu(call: Call, _emit: Emitter) -> Plain | None:
    return None if call.layer.config["arguments"].get("approximate", True) else ACTIVATIONS["gelu"]


def _as_permute(call: Call, _emit: Emitter) -> Plain | None:
    axes = call.layer.config["arguments"].get("axes")
    return ("Permute", {"dims": tuple(axes[1:])}) if axes is not None and axes[0] == 0 else None


UNARY: Mapping[str, Callable[[Call, Emitter], Plain | None]] = {
    **{
        name: _as_activation(name)
        for name in (
            "relu",
            "relu6",
            "silu",
            "sigmoid",
            "tanh",
            "selu",
            "softplus",
            "softsign",
            "hard_silu",
            "hard_sigmoid",
        )
    },
    "softmax": _as_softmax,
    "leaky_relu": _as_leaky_relu,
    "elu": _as_elu,
    "gelu": _as_gelu,
    "clip": _as_clip,
    "reshape": _as_reshape,
    "transpose": _as_permute,
    "mean": _as_pooling("Average"),
    "max": _as_pooling("Max"),
}


def _merge_op_layer(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    """Operations of several tensors that a plain layer says: Add, Multiply, Concatenate, ..."""
    if call.layer.kind != "Op" or not all(isinstance(a, Ref) for a in call.args):
        return None
    op = call.layer.config["op"]
    types = [emit.type_of(a) for a in call.args]
    if any(t.rank is None or t.rank != types[0].rank or t.dtype != "float32" for t in types):
        return None
    if op in MERGES:
        plain = replace(call.layer, kind=MERGES[op], config={})
    elif op == "concatenate" and len(call.args) > 1:
        plain = replace(call.layer, kind="Concatenate", config={"axis": call.layer.config["arguments"].get("axis", -1)})
    else:
        return None
    return emit.apply(plain, (list(call.args),), call.types)


@dataclass(frozen=True)
class _Gate:
    """relu6(source + 3)."""

    source: Ref


@dataclass(frozen=True)
class _Product:
    """A tensor as a number times others."""

    scale: float
    factors: tuple[Ref | _Gate, ...]


def _hard_sigmoid_or_swish(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    """Any product of x, relu6(x + 3) and 1/6 -> HardSwish; of relu6(x + 3) and 1/6 -> HardSigmoid.

    This is how the models that predate the activation spell it: keras.applications' MobileNetV3, x * relu6(x + 3) / 6
    through operators, Multiply layers, and products in any order.
    """
    product = _product(call, emit)
    if product is None:
        return None
    for at, gate in enumerate(product.factors):
        if not isinstance(gate, _Gate) or emit.type_of(gate.source).shape != call.types[0].shape:
            continue
        rest = Counter(product.factors[:at] + product.factors[at + 1 :])
        # x may be a product itself, and was opened with the rest.
        source = _product(emit.producer(gate.source), emit) or _Product(1.0, (gate.source,))
        if not rest and math.isclose(product.scale, 1.0 / 6.0, rel_tol=1e-5):
            kind = "HardSigmoid"
        elif rest == Counter(source.factors) and math.isclose(product.scale, source.scale / 6.0, rel_tol=1e-5):
            kind = "HardSwish"
        else:
            continue
        plain = replace(call.layer, kind=kind, config={}, weights=())
        return emit.append(Call(-1, plain, (gate.source,), {}, call.types))
    return None


def _product(call: Call, emit: Emitter) -> _Product | None:
    """The call as a product, products among its operands opened; None when it is none."""
    layer = call.layer
    op = layer.config["op"] if layer.kind == "Op" else None
    if layer.kind == "HardSigmoid":
        return _Product(1.0 / 6.0, (_Gate(call.args[0]),))
    if layer.kind == "Multiply":
        operands: Sequence[Any] = call.args[0]
    elif layer.kind == "Rescaling" and not np.any(layer.config.get("offset", 0)):
        operands = (call.args[0], layer.config["scale"])
    elif op == "multiply":
        operands = call.args
    elif op in ("divide", "true_divide") and (divisor := _scalar(call.args[1])):
        operands = (call.args[0], 1.0 / divisor)
    else:
        return None
    scale = 1.0
    factors: list[Ref | _Gate] = []
    for operand in operands:
        if isinstance(operand, Ref):
            made = emit.producer(operand)
            inner = _product(made, emit) or _Product(1.0, (_gate(made, emit) or operand,))
            scale *= inner.scale
            factors.extend(inner.factors)
        elif (number := _scalar(operand)) is not None:
            scale *= number
        else:
            return None
    return _Product(scale, tuple(factors))


def _gate(call: Call, emit: Emitter) -> _Gate | None:
    """The call as relu6(x + 3)."""
    config = call.layer.config
    if call.layer.kind != "ReLU" or config.get("max_value") != 6:
        return None
    if config.get("threshold") or config.get("negative_slope"):
        return None
    shift = emit.producer(call.args[0])
    if shift.layer.kind == "Op" and shift.layer.config["op"] == "add":
        for at, constant in ((0, 1), (1, 0)):
            if isinstance(shift.args[at], Ref) and _scalar(shift.args[constant]) == 3:
                return _Gate(shift.args[at])
    return None


def _split_to_slices(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    """A split -> one slice for each part, so that every layer writes one tensor."""
    if call.layer.kind != "Op" or call.layer.config["op"] != "split":
        return None
    shape = emit.type_of(call.args[0]).shape
    arguments = call.layer.config["arguments"]
    axis = arguments.get("axis", 0) % len(shape or (None,))
    if shape is None or any(t.shape is None or t.shape[axis] is None for t in call.types):
        return None
    parts: list[Ref] = []
    start = 0
    for index, part in enumerate(call.types):
        stop = start + int((part.shape or ())[axis] or 0)
        key = [{"slice": [None, None, None]}] * axis + [{"slice": [start, stop, None]}]
        layer = Layer(
            "Op", {"op": "get_item", "arguments": {"key": key}}, f"{call.layer.name}_{index}", call.layer.origin
        )
        parts.extend(emit.apply(layer, call.args[:1], (part,)))
        start = stop
    return parts


def _constant_kernel(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    """matmul and conv with a constant kernel, as custom layers spell them -> Dense, Conv2D."""
    if call.layer.kind != "Op" or len(call.args) != 2 or not isinstance(call.args[0], Ref):
        return None
    kernel = call.args[1]
    if not isinstance(kernel, np.ndarray) or emit.type_of(call.args[0]).rank not in (2, 3, 4):
        return None
    op, arguments = call.layer.config["op"], call.layer.config["arguments"]
    config: dict[str, Any]
    if op == "matmul" and kernel.ndim == 2:
        kind, config = "Dense", {"units": kernel.shape[1]}
    elif op == "conv" and kernel.ndim == 4:
        kind = "Conv2D"
        config = {
            "filters": kernel.shape[3],
            "kernel_size": kernel.shape[:2],
            **{k: v for k, v in arguments.items() if v is not None},
        }
    else:
        return None
    config = {**config, "use_bias": False, "activation": "linear"}
    return emit.apply(
        replace(call.layer, kind=kind, config=config, weights=(kernel.astype(np.float32),)), call.args[:1], call.types
    )


def _constant_bias(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    """A constant added to every output channel of a Dense or Conv2D without bias -> its bias."""
    if call.layer.kind != "Op" or call.layer.config["op"] != "add" or len(call.args) != 2:
        return None
    tensor, bias = call.args if isinstance(call.args[0], Ref) else reversed(call.args)
    if not isinstance(tensor, Ref) or not isinstance(bias, np.ndarray) or bias.ndim != 1:
        return None
    made = emit.producer(tensor)
    config = made.layer.config
    if made.layer.kind not in ("Dense", "Conv2D") or config.get("use_bias", True):
        return None
    if config.get("activation", "linear") != "linear" or bias.shape[0] != (call.types[0].shape or (None,))[-1]:
        return None
    biased = replace(
        made.layer, config={**config, "use_bias": True}, weights=(*made.layer.weights, bias.astype(np.float32))
    )
    return emit.apply(biased, made.args, call.types, made.kwargs)


def _scalar(value: Any) -> float | None:
    """A constant number, whatever holds it; None for anything else."""
    if isinstance(value, Ref) or value is None or isinstance(value, str | bool):
        return None
    array = np.asarray(value)
    return float(array.reshape(())) if array.size == 1 and array.dtype.kind in "iuf" else None


RULES = (
    _refuse_channels_first,
    _drop_identity,
    _split_activation,
    decompose,
    _activation_layer,
    _split_to_slices,
    _constant_kernel,
    _constant_bias,
    _hard_sigmoid_or_swish,
    _unary_op_layer,
    _merge_op_layer,
)
