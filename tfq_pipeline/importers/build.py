"""The flat form as a functional tf_keras model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfq_pipeline.errors import UnsupportedLayer
from tfq_pipeline.importers.ir import Call, Flat, Layer, Ref, map_leaves


@dataclass(frozen=True)
class Built:
    """A tf_keras model with its layer names mapped to the user's, and its tensor for every `Ref`."""

    model: Any
    layer_names: Mapping[str, str]
    tensors: Mapping[Ref, Any]


def build(flat: Flat, name: str) -> Built:
    """Builds the model.

    Raises:
        UnsupportedLayer: tf_keras refuses a layer or its weights.
    """
    import tf_keras

    names = _unique_names(flat)
    made: dict[Layer, Any] = {}
    tensors: dict[Ref, Any] = {}

    def tensor(leaf: Any) -> Any:
        return tensors[leaf] if isinstance(leaf, Ref) else leaf

    for call in flat.calls:
        layer = call.layer
        if layer.kind == "InputLayer":
            shape, dtype = layer.config["batch_shape"], layer.config["dtype"]
            result = tf_keras.Input(shape=shape[1:], dtype=dtype, name=names[layer])
        else:
            try:
                if layer not in made:
                    made[layer] = _make(call, names[layer])
                result = made[layer](*map_leaves(_tensor_args(call), tensor), **map_leaves(dict(call.kwargs), tensor))
            except (TypeError, ValueError, KeyError, AttributeError) as error:
                raise UnsupportedLayer(
                    layer.origin, layer.kind, f"Keras 2 refuses it ({_cause(error)})", "replace it in the model"
                ) from error
        outputs = result if isinstance(result, list | tuple) else [result]
        tensors.update({Ref(call.id, i): t for i, t in enumerate(outputs)})
    for layer, keras_layer in made.items():
        _set_weights(layer, keras_layer)
    model = tf_keras.Model([tensors[r] for r in flat.inputs], [tensors[r] for r in flat.outputs], name=_legal(name))
    return Built(model, {text: layer.origin for layer, text in names.items()}, tensors)


def _tensor_args(call: Call) -> tuple[Any, ...]:
    if call.layer.kind != "Op":
        return call.args
    operands = [a for a in call.args if isinstance(a, Ref)]
    return (operands[0] if len(operands) == 1 else operands,)


def _make(call: Call, name: str) -> Any:
    import tf_keras

    from tfq_pipeline.importers.op_layer import LAYERS, OpLayer

    layer = call.layer
    if layer.kind != "Op":
        cls: Any = LAYERS.get(layer.kind) or getattr(tf_keras.layers, layer.kind)
        return cls.from_config({**layer.config, "name": name})
    scalars: dict[str, float] = {}
    arrays: dict[str, np.ndarray] = {}
    for position, operand in enumerate(call.args):
        if isinstance(operand, np.ndarray) and operand.ndim:
            arrays[str(position)] = operand
        elif not isinstance(operand, Ref):
            scalars[str(position)] = operand.item() if isinstance(operand, np.ndarray | np.generic) else operand
    specs = {k: {"shape": list(v.shape), "dtype": _table_dtype(v)} for k, v in arrays.items()}
    made = OpLayer(layer.config["op"], dict(layer.config["arguments"]), scalars, specs, name=name)
    if arrays:
        made.set_weights([v.astype(_table_dtype(v)) for v in arrays.values()])
    return made


def _table_dtype(array: np.ndarray) -> str:
    return "float32" if array.dtype == np.float64 else array.dtype.name


def _set_weights(layer: Layer, keras_layer: Any) -> None:
    if layer.kind == "Op":
        return
    wanted = [tuple(w.shape) for w in keras_layer.weights]
    given = [w.shape for w in layer.weights]
    if wanted != given:
        raise UnsupportedLayer(
            layer.origin,
            layer.kind,
            f"its weights have shapes {given} where Keras 2 has {wanted}",
            "replace it in the model",
        )
    keras_layer.set_weights(list(layer.weights))


def _unique_names(flat: Flat) -> dict[Layer, str]:
    """A legal name for every layer: its path joined with underscores, numbered where that is taken."""
    names: dict[Layer, str] = {}
    taken: set[str] = set()
    for call in flat.calls:
        if call.layer in names:
            continue
        base = name = _legal(call.layer.name)
        number = 1
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        names[call.layer] = name
        taken.add(name)
    return names


def _legal(name: str) -> str:
    """A name that TensorFlow's name scopes take."""
    text = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return text if re.match(r"[A-Za-z0-9.]", text) else f"layer{text}"


def _cause(error: Exception) -> str:
    """The line of a Keras error that says what is wrong: Keras wraps it in a traceback and the call's arguments."""
    text = str(error).partition("Call arguments received")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
