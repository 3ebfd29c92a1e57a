"""Reads Keras 3 models: configs as tf_keras takes them, operations by name, nested graphs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfq_pipeline.errors import BadInput, UnsupportedLayer
from tfq_pipeline.importers.activations import ACTIVATIONS, RECURRENT
from tfq_pipeline.importers.canonical import IDENTITY
from tfq_pipeline.importers.ir import Flat, Layer, TensorType
from tfq_pipeline.importers.walk import (
    Graph,
    Node,
    Replacements,
    Translated,
    Walker,
    as_array,
    call_arguments,
    in_float32,
)

# Keras 3 argument -> tf_keras argument.
RENAMED: Mapping[str, Mapping[str, str]] = {"LeakyReLU": {"negative_slope": "alpha"}}

# Arguments that tf_keras' from_config asks for and Keras 3 does not write: unknown shapes, found at the first call.
ADDED: Mapping[str, Mapping[str, Any]] = {
    "MultiHeadAttention": {"query_shape": None, "key_shape": None, "value_shape": None},
}

# Arguments that change nothing at inference, whatever their value.
INERT = frozenset(
    {
        "quantization_config",
        "lora_rank",
        "lora_alpha",
        "quantization_mode",
        "gptq_unpacked_column_size",
        "seed",
        "use_cudnn",
        "flash_attention",
        "unroll",
        "zero_output_for_mask",
        "autocast",
        "registered_name",
        "build_config",
    }
)


def read(model: Any, replace: Replacements) -> tuple[Flat, Any]:
    """The flat form of a Keras 3 model, and the float32 model it was read from.

    Raises:
        BadInput: the model has no functional structure.
        UnsupportedLayer: a layer cannot be ported.
    """
    model = in_float32(model)
    dialect = Keras3()
    graph = dialect.graph_of(model)
    if graph is None:
        graph = _trace_subclassed(model, dialect)
    names = [t._keras_history.operation.name for t in graph.inputs]
    return Walker(dialect, replace).read(graph, names), model


def _trace_subclassed(model: Any, dialect: Keras3) -> Graph:
    import keras

    shapes = getattr(model, "_build_shapes_dict", None)
    if not model.built or not shapes:
        raise BadInput(
            f"model '{model.name}' ({type(model).__name__}) has no input shape yet; call it on a batch first"
        )
    shape = next(iter(shapes.values()))
    inputs = keras.tree.map_shape_structure(lambda s: keras.Input(batch_shape=(None, *s[1:])), shape)
    try:
        return dialect.trace(model.call, (inputs,), {})
    except Exception as error:
        raise BadInput(
            f"model '{model.name}' ({type(model).__name__}) is subclassed and its call() cannot be followed "
            f"symbolically ({str(error).splitlines()[0][:160]}); build it as keras.Model(inputs, outputs)"
        ) from error


class Keras3:
    """The dialect of Keras 3."""

    def __init__(self) -> None:
        self._layers: dict[int, Layer] = {}

    def is_tensor(self, leaf: Any) -> bool:
        import keras

        return isinstance(leaf, keras.KerasTensor)

    def flatten(self, nest: Any) -> list[Any]:
        import keras

        return list(keras.tree.flatten(nest))

    def constant(self, leaf: Any) -> Any:
        import keras

        return as_array(leaf) if isinstance(leaf, keras.Variable) or keras.ops.is_tensor(leaf) else leaf

    def type_of(self, tensor: Any) -> TensorType:
        dtype = str(tensor.dtype)
        return TensorType(tuple(tensor.shape), "float32" if dtype in ("float16", "bfloat16") else dtype)

    def is_input(self, layer: Any) -> bool:
        return type(layer).__name__ == "InputLayer"

    def graph_of(self, layer: Any) -> Graph | None:
        import keras

        if isinstance(layer, keras.Sequential):
            layer = layer._functional
            if layer is None:
                return None
        if not hasattr(layer, "_nodes_by_depth"):
            return None
        nodes = [n for depth in sorted(layer._nodes_by_depth, reverse=True) for n in layer._nodes_by_depth[depth]]
        # Keras 3 overrides the recorded training flag at inference, and records True for augmentation on its own.
        return Graph(
            [
                Node(
                    n.operation,
                    tuple(n.arguments.args),
                    {k: v for k, v in n.arguments.kwargs.items() if k != "training"},
                    list(n.outputs),
                )
                for n in nodes
            ],
            list(layer._inputs),
            list(layer._outputs),
        )

    def reorder(self, layer: Any, nest: Any) -> list[Any]:
        import keras

        functional = layer._functional if isinstance(layer, keras.Sequential) else layer
        expected = functional._inputs_struct
        if isinstance(nest, dict) and not isinstance(expected, dict):
            return [nest[t._keras_history.operation.name] for t in functional._inputs]
        return [t for t in self.flatten(nest) if self.is_tensor(t)]

    def trace(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Graph:
        import keras

        fresh: list[Any] = []

        def swap(leaf: Any) -> Any:
            if not self.is_tensor(leaf):
                return leaf
            fresh.append(keras.Input(batch_shape=leaf.shape, dtype=leaf.dtype))
            return fresh[-1]

        args, kwargs = keras.tree.map_structure(swap, (tuple(args), dict(kwargs)))
        outputs = self.flatten(function(*args, **kwargs))
        graph = self.graph_of(keras.Model(fresh, outputs))
        if graph is None:
            raise BadInput("a traced graph has no nodes")
        return graph

    def translate(self, node: Node, path: str) -> Translated | None:
        import keras

        layer = node.layer
        if not isinstance(layer, keras.layers.Layer):
            return _operation(node, path)
        known = self._layers.get(id(layer))
        then = None
        if known is None:
            kind = type(layer).__name__
            if kind in IDENTITY:
                return Translated(Layer(kind, {}, path, path), node.args[:1], {})
            if kind == "Lambda":
                return None
            if getattr(keras.layers, kind, None) is not type(layer) or not _in_tf_keras(kind):
                return None
            config, then = _config(layer, path)
            known = Layer(kind, config, path, path, tuple(as_array(w) for w in layer.weights))
            self._layers[id(layer)] = known
        elif getattr(layer, "activation", None) is not None:
            then = _config(layer, path)[1]
        return Translated(known, *call_arguments(layer, node), then)


def _in_tf_keras(kind: str) -> bool:
    import tf_keras

    return hasattr(tf_keras.layers, kind)


def _operation(node: Node, path: str) -> Translated:
    """A `keras.ops` node: operands in the order of the operation's call, settings by name."""
    import keras

    from tfq_pipeline.importers.op_layer import OPS, encode_key

    kind = type(node.layer).__name__
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower()
    if name not in OPS:
        raise UnsupportedLayer(
            path, f"keras.ops, {kind}", "this operation has no counterpart here", "write it with other keras.ops"
        )
    arguments = {k: v for k, v in node.layer.get_config().items() if k not in ("name", "dtype") and v is not None}
    if name == "cast":
        arguments["dtype"] = str(node.outputs[0].dtype)
    bound = inspect.signature(node.layer.call).bind(*node.args, **node.kwargs).arguments
    operands: list[Any] = []
    for key, value in bound.items():
        if value is None:
            continue
        if key == "key":
            arguments["key"] = encode_key(value)
        elif key == "constant_values":
            arguments[key] = value
        elif isinstance(value, list | tuple):
            operands.extend(value if any(isinstance(v, keras.KerasTensor) for v in value) else [np.asarray(value)])
        else:
            operands.append(value)
    return Translated(Layer("Op", {"op": name, "arguments": arguments}, path, path), tuple(operands), {})


def _config(layer: Any, path: str) -> tuple[dict[str, Any], Callable[[Any], Any] | None]:
    """The layer's config as tf_keras reads it, and its activation where that is a function of the user's."""
    import keras

    config = dict(layer.get_config())
    then = None
    kind = type(layer).__name__
    if "activation" in config and callable(getattr(layer, "activation", None)):
        name = getattr(layer.activation, "__name__", "")
        builtin = hasattr(keras.activations, name) and getattr(keras.activations, name) is layer.activation
        if (builtin and (name in ACTIVATIONS or name == "linear")) or kind in ("LSTM", "GRU", "SimpleRNN"):
            config["activation"] = name
        else:
            config["activation"], then = "linear", layer.activation
    return _accepted(kind, config, path, layer), then


def _accepted(kind: str, config: Mapping[str, Any], path: str, layer: Any) -> dict[str, Any]:
    """The arguments that the tf_keras class knows.

    Raises:
        UnsupportedLayer: an argument that tf_keras lacks has another value than its default.
    """
    import tf_keras

    accepted = _parameters(getattr(tf_keras.layers, kind)) | {"trainable"}
    defaults = _defaults(type(layer)) if layer is not None else {}
    renamed = RENAMED.get(kind, {})
    plain: dict[str, Any] = dict(ADDED.get(kind, {}))
    for key, value in config.items():
        key = renamed.get(key, key)
        if key == "name" or key.endswith(("_initializer", "_regularizer", "_constraint")):
            continue
        if key == "dtype":
            plain.update(_dtype(value))
        elif key in accepted:
            plain[key] = _plain(value, path)
        elif key not in INERT and layer is not None and (value != defaults[key] if key in defaults else bool(value)):
            raise UnsupportedLayer(
                path, kind, f"argument {key}={value!r} has no counterpart in Keras 2", f"build it without {key}"
            )
    for key in ("activation", "recurrent_activation"):
        if kind in ("LSTM", "GRU", "SimpleRNN") and key in plain:
            name = "swish" if plain[key] == "silu" else plain[key]
            if name not in RECURRENT:
                raise UnsupportedLayer(
                    path, kind, f"{key}={name!r} cannot be ported", f"use one of {', '.join(RECURRENT)}"
                )
            plain[key] = name
    return plain


def _dtype(value: Any) -> dict[str, str]:
    """The dtype argument, for layers whose dtype is no float (indices); floats become float32, the default."""
    name = value["config"]["name"] if isinstance(value, dict) else value
    return {"dtype": name} if isinstance(name, str) and name.startswith(("int", "uint", "bool", "string")) else {}


def _plain(value: Any, path: str) -> Any:
    """A config value without Keras 3's serialization envelopes."""
    if isinstance(value, dict) and "class_name" in value and "config" in value:
        if value["class_name"] == "DTypePolicy":
            return "float32"
        if value["class_name"] == "__tuple__":
            return tuple(_plain(v, path) for v in value["config"])
        inner = dict(value["config"]) if isinstance(value["config"], dict) else value["config"]
        if isinstance(inner, dict) and _in_tf_keras(value["class_name"]):
            name = inner.get("name")
            inner = _accepted(value["class_name"], inner, path, None)
            inner.update({"name": name} if name else {})
        return {"class_name": value["class_name"], "config": inner}
    if isinstance(value, dict):
        return {k: _plain(v, path) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(v, path) for v in value)
    return value


def _parameters(cls: type) -> set[str]:
    """Names that the constructors of a class and its bases take."""
    names: set[str] = set()
    for base in cls.__mro__:
        init = base.__dict__.get("__init__")
        if init is not None and base is not object and base.__name__ != "Module":
            names.update(inspect.signature(init).parameters)
    return names - {"self", "args", "kwargs"}


def _defaults(cls: type) -> dict[str, Any]:
    """Default values of the constructor arguments of a class and its bases."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        init = base.__dict__.get("__init__")
        if init is not None and base is not object:
            for name, parameter in inspect.signature(init).parameters.items():
                if parameter.default is not parameter.empty:
                    found[name] = parameter.default
    return found
