"""Rewrites the flat form into the one form that the rest of the pipeline reads.

Each rule looks at one call and what made its inputs; see `ir.Rule`. Afterwards:
no layer that does nothing at inference is left; activations other than relu and relu6 stand in layers of their own;
separable convolutions are two convolutions; operations that a plain layer can say are that layer;
hard sigmoid and hard swish are one layer each, however they were spelled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from absl import logging

from tfq_pipeline.errors import UnsupportedLayer
from tfq_pipeline.importers.activations import ACTIVATIONS, FUSED
from tfq_pipeline.importers.ir import Call, Emitter, Flat, Layer, Ref, TensorType, refs_in, rewrite

# Layers that pass their input through at inference.
IDENTITY = (
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "AlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "ActivityRegularization",
    "Identity",
    "RandomBrightness",
    "RandomContrast",
    "RandomFlip",
    "RandomHeight",
    "RandomRotation",
    "RandomTranslation",
    "RandomWidth",
    "RandomZoom",
)

# Keras 3 augmentation layers that tf_keras lacks; they pass their input through at inference too.
IDENTITY_KERAS3 = (
    "AugMix",
    "AutoContrast",
    "CutMix",
    "Equalization",
    "MixUp",
    "RandAugment",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "Solarization",
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


def _refuse_channels_first(call: Call, emit: Emitter) -> None:
    if call.layer.config.get("data_format") == "channels_first":
        raise UnsupportedLayer(
            call.layer.origin,
            call.layer.kind,
            "it keeps its channels first, which TensorFlow Lite does not run",
            "build the model with data_format='channels_last'",
        )


def _drop_identity(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    kind = call.layer.kind
    linear = kind == "Activation" and call.layer.config.get("activation") == "linear"
    if kind not in IDENTITY and kind not in IDENTITY_KERAS3 and not linear:
        return None
    logging.info("layer '%s' (%s) does nothing at inference: dropped", call.layer.origin, kind)
    return tuple(refs_in(list(call.args)))


def _split_activation(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    """Dense(activation="softmax") -> Dense, Softmax."""
    name = call.layer.config.get("activation", "linear")
    if call.layer.kind not in WITH_ACTIVATION or name in FUSED:
        return None
    bare = emit.derived(
        call.layer, "linear", lambda: replace(call.layer, config={**call.layer.config, "activation": "linear"})
    )
    (result,) = emit.apply(bare, call.args, call.types, call.kwargs)
    kind, config = ACTIVATIONS[name]
    return emit.apply(Layer(kind, config, f"{call.layer.name}_{name}", call.layer.origin), (result,), call.types)


def _activation_layer(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    """Activation("relu6") -> ReLU(max_value=6), Activation("hard_silu") -> HardSwish, ..."""
    if call.layer.kind != "Activation" or call.layer.config["activation"] not in ACTIVATIONS:
        return None
    kind, config = ACTIVATIONS[call.layer.config["activation"]]
    if kind == "Activation":
        if call.layer.config["activation"] == config["activation"]:
            return None
        return emit.append(replace(call, layer=replace(call.layer, config=config)))
    return emit.apply(replace(call.layer, kind=kind, config=config), call.args[:1], call.types)


def _split_separable(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    """SeparableConv2D -> DepthwiseConv2D, 1x1 Conv2D."""
    layer = call.layer
    if layer.kind != "SeparableConv2D":
        return None
    config, weights = layer.config, layer.weights
    shared = {k: config[k] for k in ("trainable",) if k in config}
    depthwise = emit.derived(
        layer,
        "depthwise",
        lambda: Layer(
            "DepthwiseConv2D",
            {
                **shared,
                **{k: config[k] for k in ("kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier")},
                "use_bias": False,
            },
            f"{layer.name}_depthwise",
            layer.origin,
            weights[:1],
        ),
    )
    pointwise = emit.derived(
        layer,
        "pointwise",
        lambda: Layer(
            "Conv2D",
            {
                **shared,
                "filters": config["filters"],
                "kernel_size": (1, 1),
                "use_bias": config["use_bias"],
                "activation": config["activation"],
            },
            f"{layer.name}_pointwise",
            layer.origin,
            weights[1:],
        ),
    )
    shape = call.types[0].shape
    middle = TensorType(None if shape is None else (*shape[:-1], int(np.prod(weights[0].shape[-2:]))))
    (between,) = emit.apply(depthwise, call.args, (middle,))
    return emit.apply(pointwise, (between,), call.types)


def _unary_op_layer(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    """Operations of one tensor that a plain layer says: relu, softmax, clip to 0..6, reshape, mean over the image."""
    if call.layer.kind != "Op" or len(call.args) == 0 or not isinstance(call.args[0], Ref):
        return None
    make = UNARY.get(call.layer.config["op"])
    plain = None if make is None else make(call, emit)
    if plain is None:
        return None
    kind, config = plain
    return emit.apply(replace(call.layer, kind=kind, config=config), call.args[:1], call.types)


Plain = tuple[str, Mapping[str, Any]]


def _as_clip(call: Call, emit: Emitter) -> Plain | None:
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
    if None in wanted[1:] or None in given[1:] or math.prod(given[1:]) != math.prod(wanted[1:]):
        return None
    return "Reshape", {"target_shape": tuple(wanted[1:])}


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
    return lambda call, emit: ACTIVATIONS[name]


def _as_softmax(call: Call, emit: Emitter) -> Plain | None:
    axis = call.layer.config["arguments"].get("axis", -1)
    return None if axis is None else ("Softmax", {"axis": axis})


def _as_leaky_relu(call: Call, emit: Emitter) -> Plain | None:
    return "LeakyReLU", {"alpha": call.layer.config["arguments"].get("negative_slope", 0.2)}


def _as_elu(call: Call, emit: Emitter) -> Plain | None:
    return "ELU", {"alpha": call.layer.config["arguments"].get("alpha", 1.0)}


def _as_gelu(call: Call, emit: Emitter) -> Plain | None:
    return None if call.layer.config["arguments"].get("approximate", True) else ACTIVATIONS["gelu"]


def _as_permute(call: Call, emit: Emitter) -> Plain | None:
    axes = call.layer.config["arguments"].get("axes")
    return ("Permute", {"dims": tuple(axes[1:])}) if axes is not None and axes[0] == 0 else None


UNARY: Mapping[str, Callable[[Call, Emitter], Plain | None]] = {
    **{
        name: _as_activation(name)
        for name in ("relu", "relu6", "silu", "sigmoid", "tanh", "selu", "softplus", "softsign", "hard_silu", "hard_sigmoid")
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
class _Product:
    """A tensor as a number times other tensors."""

    scale: float
    factors: tuple[Ref, ...]


def _hard_sigmoid_or_swish(call: Call, emit: Emitter) -> Sequence[Ref] | None:
    """Any product of x, relu6(x + 3) and 1/6 -> HardSwish; of relu6(x + 3) and 1/6 -> HardSigmoid.

    This is how the models that predate the activation spell it: keras.applications' MobileNetV3, x * relu6(x + 3) / 6
    through operators, Multiply layers, and products in any order.
    """
    product = _product_of_call(call, emit)
    if product is None or not math.isclose(product.scale, 1.0 / 6.0, rel_tol=1e-5):
        return None
    sources = [_hard_gate_input(ref, emit) for ref in product.factors]
    kind = None
    if len(product.factors) == 1 and sources[0] is not None:
        kind, source = "HardSigmoid", sources[0]
    elif len(product.factors) == 2:
        for gate, other in ((0, 1), (1, 0)):
            if sources[gate] is not None and sources[gate] == product.factors[other]:
                kind, source = "HardSwish", product.factors[other]
    if kind is None:
        return None
    return emit.append(Call(-1, replace(call.layer, kind=kind, config={}, weights=()), (source,), {}, call.types))


def _product_of_call(call: Call, emit: Emitter) -> _Product | None:
    """The call as a product, products among its operands opened; None when it is none."""
    layer = call.layer
    if layer.kind == "Multiply":
        operands: Sequence[Any] = call.args[0]
    elif layer.kind == "Rescaling" and np.ndim(layer.config["scale"]) == 0 and not np.any(layer.config.get("offset", 0)):
        operands = (call.args[0], layer.config["scale"])
    elif layer.kind == "Op" and layer.config["op"] == "multiply":
        operands = call.args
    elif layer.kind == "Op" and layer.config["op"] in ("divide", "true_divide"):
        divisor = _scalar(call.args[1])
        if not divisor:
            return None
        operands = (call.args[0], 1.0 / divisor)
    else:
        return None
    scale, factors = 1.0, []
    for operand in operands:
        if isinstance(operand, Ref):
            inner = _product(operand, emit)
            scale *= inner.scale
            factors.extend(inner.factors)
        elif (number := _scalar(operand)) is not None:
            scale *= number
        else:
            return None
    return _Product(scale, tuple(factors))


def _product(ref: Ref, emit: Emitter) -> _Product:
    made = emit.producer(ref)
    if made.layer.kind == "HardSigmoid":
        # relu6(x + 3) itself was emitted before it; its call is found again by its input.
        gate = _gate_of(made.args[0], emit)
        if gate is not None:
            return _Product(1.0 / 6.0, (gate,))
    return _product_of_call(made, emit) or _Product(1.0, (ref,))


def _gate_of(source: Ref, emit: Emitter) -> Ref | None:
    """The tensor relu6(source + 3), where the graph has it."""
    for call in emit.calls.values():
        ref = Ref(call.id)
        if _is_relu6(call) and _hard_gate_input(ref, emit) == source:
            return ref
    return None


def _is_relu6(call: Call) -> bool:
    return call.layer.kind == "ReLU" and call.layer.config.get("max_value") == 6


def _hard_gate_input(ref: Ref, emit: Emitter) -> Ref | None:
    """x where the tensor is relu6(x + 3)."""
    relu = emit.producer(ref)
    if not _is_relu6(relu) or relu.layer.config.get("threshold") or relu.layer.config.get("negative_slope"):
        return None
    shift = emit.producer(relu.args[0])
    if shift.layer.kind == "Op" and shift.layer.config["op"] == "add":
        for at, constant in ((0, 1), (1, 0)):
            if isinstance(shift.args[at], Ref) and _scalar(shift.args[constant]) == 3:
                return shift.args[at]
    return None


def _scalar(value: Any) -> float | None:
    """A constant number, whatever holds it; None for anything else."""
    if isinstance(value, Ref) or value is None or isinstance(value, str | bool):
        return None
    array = np.asarray(value)
    return float(array.reshape(())) if array.size == 1 and array.dtype.kind in "iuf" else None


RULES = (
    _refuse_channels_first,
    _drop_identity,
    _split_separable,
    _split_activation,
    _activation_layer,
    _hard_sigmoid_or_swish,
    _unary_op_layer,
    _merge_op_layer,
)
