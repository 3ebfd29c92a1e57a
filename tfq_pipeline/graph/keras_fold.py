"""Folds of the Keras backend: channel-wise affine layers into linear ones, and activations into the layer before.

Folding follows Jacob et al. 2018, section 3.2, in the form that inference sees: weights and bias are multiplied
once, in float64, and the normalization is gone. What cannot be folded either way becomes a 1x1 depthwise
convolution, which is an integer operator.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tfq_pipeline.errors import BadInput, UnsupportedLayer
from tfq_pipeline.graph.functional import Call, Functional, LayerSpec, TensorRef
from tfq_pipeline.graph.keras_layers import BATCH_NORM, CHANNEL_AFFINE, LINEAR, RELU_LIMITS, channel_affine
from tfq_pipeline.graph.protocol import Normal


def kind(spec: LayerSpec) -> str:
    return spec.cls.__name__


def label(spec: LayerSpec) -> str:
    """What a layer computes: the operation of an OpLayer, the function of an Activation, else the class."""
    key = {"OpLayer": "op", "Activation": "activation"}.get(kind(spec))
    return kind(spec) if key is None else str(spec.config[key])


def fold_channel_affine(net: Functional) -> Functional:
    """Folds every BatchNormalization, Rescaling and Normalization.

    Raises:
        UnsupportedLayer: for one that no fold reaches, naming it.
    """
    while True:
        call = next((c for c in net.calls if not c.is_input and kind(net.layers[c.layer]) in CHANNEL_AFFINE), None)
        if call is None:
            return net
        net = _fold(net, call)


def _fold(net: Functional, call: Call) -> Functional:
    spec = net.layers[call.layer]
    channels = call.shapes[0][-1]
    axis = spec.config.get("axis", -1)
    axes = [axis] if isinstance(axis, int) else list(axis or [-1])
    rank = len(call.shapes[0])
    affine = channel_affine(kind(spec), spec.config, spec.weights, channels) if channels else None
    if affine is None or (kind(spec) == BATCH_NORM and [a % rank for a in axes] != [rank - 1]):
        raise UnsupportedLayer(
            spec.name,
            kind(spec),
            f"normalizes axis {axis} of {call.shapes[0]}",
            "only the last axis can be folded: transpose the model to channels last",
        )
    scale, shift = affine
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise BadInput(
            f"layer '{spec.name}' ({kind(spec)}): its statistics make no finite factor (a variance that is negative or "
            "0, NaN, infinity); train or export the model again"
        )
    backward = _into_producer(net, call, scale, shift)
    if backward is not None:
        return backward
    forward = _into_consumers(net, call, scale, shift)
    if forward is not None:
        return forward
    return _as_depthwise(net, call, scale, shift)


def _into_producer(net: Functional, call: Call, scale: np.ndarray, shift: np.ndarray) -> Functional | None:
    (source,) = net.reads(call)
    producer = net.call(source)
    if producer.is_input:
        return None
    spec = net.layers[producer.layer]
    if (
        kind(spec) not in LINEAR
        or spec.config.get("activation") not in (None, "linear")
        or net.uses(spec.name) > 1
        or len(net.consumers()[source.call, source.output]) > 1
        or net.is_output(source)
    ):
        return None
    kernel, bias = kernel_and_bias(spec)
    kernel = LINEAR[kind(spec)].scale_outputs(kernel.astype(np.float64), scale)
    bias = (0.0 if bias is None else bias.astype(np.float64)) * scale + shift
    folded = replace(with_kernel(spec, kernel, bias), normal=_normal(net.layers[call.layer], spec.normal, scale, shift))
    return net.with_layer(folded).without_call(call)


def _normal(spec: LayerSpec, source: Normal | None, scale: np.ndarray, shift: np.ndarray) -> Normal | None:
    """Distribution of what a channel-wise affine layer writes: batch norm knows that of what it reads."""
    if kind(spec) == BATCH_NORM:
        mean, variance = (w.astype(np.float64) for w in spec.weights[-2:])
        source = Normal(mean, np.sqrt(np.maximum(variance, 0.0)))
    return None if source is None else source.affine(scale, shift)


def _into_consumers(net: Functional, call: Call, scale: np.ndarray, shift: np.ndarray) -> Functional | None:
    target = TensorRef(call.id)
    readers = net.consumers().get((call.id, 0), [])
    if not readers or net.is_output(target):
        return None
    for reader in readers:
        spec = net.layers[reader.layer]
        linear = LINEAR.get(kind(spec))
        if (
            linear is None
            or linear.scale_inputs is None
            or net.uses(spec.name) > 1
            or spec.config.get("groups", 1) != 1
        ):
            return None
        if np.any(shift) and not _reads_no_padding(spec):
            return None
    for reader in readers:
        spec = net.layers[reader.layer]
        linear = LINEAR[kind(spec)]
        assert linear.scale_inputs is not None
        assert linear.input_sum is not None
        kernel, bias = kernel_and_bias(spec)
        wide = kernel.astype(np.float64)
        moved = (0.0 if bias is None else bias.astype(np.float64)) + linear.input_sum(wide, shift)
        net = net.with_layer(with_kernel(spec, linear.scale_inputs(wide, scale), moved))
    return net.without_call(call)


def _reads_no_padding(spec: LayerSpec) -> bool:
    if kind(spec) == "Dense" or spec.config.get("padding") == "valid":
        return True
    return spec.config.get("padding") == "same" and set(np.ravel(spec.config["kernel_size"])) == {1}


def _as_depthwise(net: Functional, call: Call, scale: np.ndarray, shift: np.ndarray) -> Functional:
    """A 1x1 depthwise convolution; of rows and sequences, of the image that they are one line of."""
    import tf_keras

    spec, shape = net.layers[call.layer], call.shapes[0]
    alone = len(shape) == 4
    if len(shape) > 4 or (not alone and None in shape[1:]):
        raise UnsupportedLayer(
            spec.name,
            kind(spec),
            f"no linear layer beside it can take it, and its tensor has shape {shape}",
            "put it directly after or before a Dense or Conv layer, or give the input a fixed shape",
        )
    name = spec.name if alone else f"{spec.name}_affine"
    layer = tf_keras.layers.DepthwiseConv2D((1, 1), name=name)
    weights = (scale.reshape(1, 1, -1, 1).astype(np.float32), shift.astype(np.float32))
    depthwise = LayerSpec(name, type(layer), layer.get_config(), weights, _normal(spec, None, scale, shift))
    if alone:
        return net.with_layer(depthwise)
    image = (None, *(1,) * (4 - len(shape)), *shape[1:])

    def reshaped(name: str, to: tuple[int | None, ...]) -> LayerSpec:
        layer = tf_keras.layers.Reshape(to[1:], name=name)
        return LayerSpec(name, type(layer), layer.get_config(), ())

    chain = [reshaped(f"{spec.name}_image", image), depthwise, reshaped(spec.name, shape)]
    return net.expanded(call, chain, [image, image, shape])


def fuse_relu(net: Functional) -> Functional:
    """Moves a ReLU or ReLU6 that follows a linear layer alone into that layer, as TFLite stores it."""
    for call in net.calls:
        if call.is_input:
            continue
        name = relu_name(net.layers[call.layer])
        if name is None:
            continue
        (source,) = net.reads(call)
        producer = net.call(source)
        spec = net.layers[producer.layer]
        if (
            producer.is_input
            or kind(spec) not in LINEAR
            or spec.config.get("activation") not in (None, "linear")
            or net.uses(spec.name) > 1
            or len(net.consumers()[source.call, source.output]) > 1
            or net.is_output(source)
        ):
            continue
        fused = replace(spec, config={**spec.config, "activation": name})
        return fuse_relu(net.with_layer(fused).without_call(call))
    return net


def relu_name(spec: LayerSpec) -> str | None:
    """'relu' or 'relu6' for a layer that is exactly that, else None."""
    if label(spec) in RELU_LIMITS:
        return label(spec)
    if kind(spec) != "ReLU" or spec.config.get("negative_slope") or spec.config.get("threshold"):
        return None
    limit = spec.config.get("max_value")
    return next((name for name, top in RELU_LIMITS.items() if top == (None if limit is None else float(limit))), None)


def kernel_and_bias(spec: LayerSpec) -> tuple[np.ndarray, np.ndarray | None]:
    """Keras kernel and bias of a linear layer."""
    return spec.weights[0], spec.weights[1] if spec.config.get("use_bias", True) else None


def with_kernel(spec: LayerSpec, kernel: np.ndarray, bias: np.ndarray | None) -> LayerSpec:
    """The layer with other values (Keras layout); it gains a bias where it had none."""
    config: dict[str, Any] = {**spec.config, "use_bias": bias is not None}
    weights = (kernel.astype(np.float32),) + (() if bias is None else (np.asarray(bias, np.float32),))
    return replace(spec, config=config, weights=weights)
