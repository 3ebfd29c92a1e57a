"""Reads tf_keras (Keras 2) models: its layers, its TFOpLambda and slicing nodes, nested graphs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tfq_pipeline.errors import BadInput, UnsupportedLayer
from tfq_pipeline.importers.activations import ACTIVATIONS, KERAS2_HARD_SIGMOID
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

# TensorFlow symbol -> (operation, its operands among the function's parameters, parameter -> the operation's argument).
SYMBOLS: Mapping[str, tuple[str, tuple[str, ...], Mapping[str, str]]] = {
    **{
        symbol: (op, ("x", "y"), {})
        for symbol, op in {
            "__operators__.add": "add",
            "math.add": "add",
            "math.subtract": "subtract",
            "math.multiply": "multiply",
            "math.truediv": "true_divide",
            "math.divide": "divide",
            "math.floordiv": "floor_divide",
            "math.floormod": "mod",
            "math.pow": "power",
            "math.maximum": "maximum",
            "math.minimum": "minimum",
            "math.equal": "equal",
            "__operators__.eq": "equal",
            "math.not_equal": "not_equal",
            "__operators__.ne": "not_equal",
            "math.greater": "greater",
            "math.greater_equal": "greater_equal",
            "math.less": "less",
            "math.less_equal": "less_equal",
            "math.logical_and": "logical_and",
            "math.logical_or": "logical_or",
        }.items()
    },
    **{
        symbol: (op, ("x",), {})
        for symbol, op in {
            "math.abs": "abs",
            "math.negative": "negative",
            "math.sign": "sign",
            "math.square": "square",
            "math.sqrt": "sqrt",
            "math.rsqrt": "rsqrt",
            "math.reciprocal": "reciprocal",
            "math.exp": "exp",
            "math.log": "log",
            "math.log1p": "log1p",
            "math.sin": "sin",
            "math.cos": "cos",
            "math.erf": "erf",
            "math.floor": "floor",
            "math.ceil": "ceil",
            "math.round": "round",
            "math.sigmoid": "sigmoid",
            "math.tanh": "tanh",
            "math.log_sigmoid": "log_sigmoid",
            "math.logical_not": "logical_not",
        }.items()
    },
    **{
        symbol: (op, ("features",), {})
        for symbol, op in {
            "nn.relu": "relu",
            "nn.relu6": "relu6",
            "nn.elu": "elu",
            "nn.selu": "selu",
            "nn.softsign": "softsign",
            "math.softplus": "softplus",
            "nn.softplus": "softplus",
        }.items()
    },
    "nn.silu": ("silu", ("features",), {}),
    "nn.gelu": ("gelu", ("features",), {"approximate": "approximate"}),
    "nn.leaky_relu": ("leaky_relu", ("features",), {"alpha": "negative_slope"}),
    "nn.softmax": ("softmax", ("logits",), {"axis": "axis"}),
    "nn.log_softmax": ("log_softmax", ("logits",), {"axis": "axis"}),
    **{
        f"math.reduce_{name}": (op, ("input_tensor",), {"axis": "axis", "keepdims": "keepdims"})
        for name, op in {
            "mean": "mean",
            "sum": "sum",
            "max": "max",
            "min": "min",
            "prod": "prod",
            "variance": "var",
            "std": "std",
        }.items()
    },
    "math.argmax": ("argmax", ("input",), {"axis": "axis"}),
    "math.argmin": ("argmin", ("input",), {"axis": "axis"}),
    "clip_by_value": ("clip", ("t", "clip_value_min", "clip_value_max"), {}),
    "cast": ("cast", ("x",), {"dtype": "dtype"}),
    "where": ("where", ("condition", "x", "y"), {}),
    "concat": ("concatenate", ("values",), {"axis": "axis"}),
    "stack": ("stack", ("values",), {"axis": "axis"}),
    "split": ("split", ("value",), {"num_or_size_splits": "indices_or_sections", "axis": "axis"}),
    "reshape": ("reshape", ("tensor",), {"shape": "newshape"}),
    "transpose": ("transpose", ("a",), {"perm": "axes"}),
    "compat.v1.transpose": ("transpose", ("a",), {"perm": "axes"}),
    "squeeze": ("squeeze", ("input",), {"axis": "axis"}),
    "compat.v1.squeeze": ("squeeze", ("input",), {"axis": "axis"}),
    "expand_dims": ("expand_dims", ("input",), {"axis": "axis"}),
    "tile": ("tile", ("input",), {"multiples": "repeats"}),
    "repeat": ("repeat", ("input",), {"repeats": "repeats", "axis": "axis"}),
    "reverse": ("flip", ("tensor",), {"axis": "axis"}),
    "broadcast_to": ("broadcast_to", ("input",), {"shape": "shape"}),
    "pad": ("pad", ("tensor",), {"paddings": "pad_width", "mode": "mode", "constant_values": "constant_values"}),
    "compat.v1.pad": (
        "pad",
        ("tensor",),
        {"paddings": "pad_width", "mode": "mode", "constant_values": "constant_values"},
    ),
    "nn.bias_add": ("add", ("value", "bias"), {}),
    **{
        symbol: (
            "conv",
            ("input", "filters"),
            {"strides": "strides", "padding": "padding", "dilations": "dilation_rate"},
        )
        for symbol in ("nn.conv2d", "nn.convolution")
    },
    "linalg.matmul": ("matmul", ("a", "b"), {}),
    "einsum": ("einsum", ("inputs",), {"equation": "subscripts"}),
    "one_hot": ("one_hot", ("indices",), {"depth": "num_classes"}),
    "image.resize": ("resize", ("images",), {"size": "size", "method": "interpolation", "antialias": "antialias"}),
    "nn.depth_to_space": ("depth_to_space", ("input",), {"block_size": "block_size"}),
    "nn.space_to_depth": ("space_to_depth", ("input",), {"block_size": "block_size"}),
    "nn.max_pool2d": (
        "max_pool",
        ("input",),
        {"ksize": "pool_size", "strides": "strides", "padding": "padding"},
    ),
    "nn.avg_pool2d": (
        "average_pool",
        ("input",),
        {"ksize": "pool_size", "strides": "strides", "padding": "padding"},
    ),
    "math.l2_normalize": ("l2_normalize", ("x",), {"axis": "axis", "epsilon": "epsilon"}),
}

# Parameters that may be left out of an operation, and the only values they may have then.
IGNORED: Mapping[str, tuple[Any, ...]] = {
    "name": (None,),
    "data_format": (None, "NHWC"),
    "beta": (1.0,),
    "conjugate": (False,),
    "preserve_aspect_ratio": (False,),
    "num": (None,),
    "squeeze_dims": (None,),
    "dim": (None,),
    "out_type": (None,),
    "batch_dims": (0,),
    **dict.fromkeys(
        ("transpose_a", "transpose_b", "adjoint_a", "adjoint_b", "a_is_sparse", "b_is_sparse", "grad_a"), (False,)
    ),
    "grad_b": (False,),
    "output_type": (None,),
    "on_value": (None, 1.0),
    "off_value": (None, 0.0),
}


def read(model: Any, replace: Replacements) -> tuple[Flat, Any]:
    """The flat form of a tf_keras model, and the float32 model it was read from.

    Raises:
        BadInput: the model has no functional structure, or is quantized or pruned already.
        UnsupportedLayer: a layer cannot be ported.
    """
    model = in_float32(model)
    dialect = Keras2()
    graph = dialect.graph_of(model)
    if graph is None:
        graph = _trace_subclassed(model, dialect)
    return Walker(dialect, replace).read(graph, [t._keras_history.layer.name for t in graph.inputs]), model


def _trace_subclassed(model: Any, dialect: Keras2) -> Graph:
    import tensorflow as tf
    import tf_keras

    spec = getattr(model, "_saved_model_inputs_spec", None)
    if not model.built or spec is None:
        raise BadInput(
            f"model '{model.name}' ({type(model).__name__}) has no input shape yet; call it on a batch first"
        )
    inputs = tf.nest.map_structure(lambda s: tf_keras.Input(shape=s.shape[1:], dtype=s.dtype), spec)
    try:
        return dialect.trace(model.call, (inputs,), {})
    except Exception as error:
        raise BadInput(
            f"model '{model.name}' ({type(model).__name__}) is subclassed and its call() cannot be followed "
            f"symbolically ({str(error).splitlines()[0][:160]}); build it as tf_keras.Model(inputs, outputs)"
        ) from error


class Keras2:
    """The dialect of tf_keras."""

    def __init__(self) -> None:
        self._layers: dict[int, Layer] = {}

    def is_tensor(self, leaf: Any) -> bool:
        import tf_keras

        return bool(tf_keras.backend.is_keras_tensor(leaf)) if hasattr(leaf, "_keras_history") else False

    def flatten(self, nest: Any) -> list[Any]:
        import tensorflow as tf

        return list(tf.nest.flatten(nest))

    def constant(self, leaf: Any) -> Any:
        import tensorflow as tf

        return as_array(leaf) if isinstance(leaf, tf.Tensor | tf.Variable) else leaf

    def type_of(self, tensor: Any) -> TensorType:
        dtype = tensor.dtype.name
        shape = None if tensor.shape.rank is None else tuple(tensor.shape)
        return TensorType(shape, "float32" if dtype in ("float16", "bfloat16") else dtype)

    def is_input(self, layer: Any) -> bool:
        return type(layer).__name__ == "InputLayer"

    def graph_of(self, layer: Any) -> Graph | None:
        if not getattr(layer, "_is_graph_network", False):
            return None
        nodes = [n for depth in sorted(layer._nodes_by_depth, reverse=True) for n in layer._nodes_by_depth[depth]]
        return Graph(
            [Node(n.layer, tuple(n.call_args), dict(n.call_kwargs), self.flatten(n.outputs)) for n in nodes],
            list(layer.inputs),
            list(layer.outputs),
        )

    def reorder(self, layer: Any, nest: Any) -> list[Any]:
        return [t for t in layer._flatten_to_reference_inputs(nest) if self.is_tensor(t)]

    def trace(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Graph:
        import tensorflow as tf
        import tf_keras

        fresh: list[Any] = []

        def swap(leaf: Any) -> Any:
            if not self.is_tensor(leaf):
                return leaf
            fresh.append(tf_keras.Input(batch_shape=leaf.shape, dtype=leaf.dtype))
            return fresh[-1]

        args, kwargs = tf.nest.map_structure(swap, (tuple(args), dict(kwargs)))
        graph = self.graph_of(tf_keras.Model(fresh, self.flatten(function(*args, **kwargs))))
        if graph is None:
            raise BadInput("a traced graph has no nodes")
        return graph

    def translate(self, node: Node, path: str) -> Translated | None:
        import tf_keras

        from tfq_pipeline.importers.op_layer import LAYERS

        layer = node.layer
        kind = type(layer).__name__
        if kind in ("TFOpLambda", "SlicingOpLambda"):
            return _operation(node, path)
        if kind.startswith(
            ("QuantizeWrapper", "QuantizeAnnotate", "QuantizeLayer", "PruneLowMagnitude", "ClusterWeights")
        ):
            raise UnsupportedLayer(
                path,
                kind,
                "the model is quantized, pruned or clustered already",
                "pass the float model, wrappers stripped",
            )
        if kind == "OpLayer" and LAYERS[kind] is type(layer):
            return _op_layer(node, path)
        known = self._layers.get(id(layer))
        then = None
        if known is None:
            if LAYERS.get(kind) is not type(layer) and (
                kind == "Lambda"
                or not type(layer).__module__.startswith("tf_keras.")
                or not hasattr(tf_keras.layers, kind)
            ):
                return None
            config, then = _config(layer)
            known = Layer(kind, config, path, path, tuple(as_array(w) for w in layer.weights))
            self._layers[id(layer)] = known
        elif hasattr(layer, "activation"):
            then = _config(layer)[1]
        return Translated(known, *call_arguments(layer, node), then)


def _config(layer: Any) -> tuple[dict[str, Any], Callable[[Any], Any] | None]:
    """The layer's config without its name, and its activation where that is a function of the user's."""
    import tf_keras

    config = {k: v for k, v in layer.get_config().items() if k not in ("name", "batch_input_shape")}
    if config.get("dtype") == "float32":
        del config["dtype"]
    activation = getattr(layer, "activation", None)
    if "activation" not in config or not callable(activation) or hasattr(layer, "cell"):
        return config, None
    name = getattr(activation, "__name__", "")
    name = {"swish": "silu", "hard_sigmoid": KERAS2_HARD_SIGMOID}.get(name, name)
    spelled = getattr(activation, "__name__", "")
    if (name in ACTIVATIONS or name == "linear") and tf_keras.activations.get(spelled) is activation:
        return {**config, "activation": name}, None
    return {**config, "activation": "linear"}, activation


def _operation(node: Node, path: str) -> Translated:
    """A TensorFlow function in the graph as an operation."""
    from tfq_pipeline.importers.op_layer import encode_key

    layer = node.layer
    if type(layer).__name__ == "SlicingOpLambda":
        bound = inspect.signature(layer.function).bind(*node.args, **node.kwargs).arguments
        spec = bound["slice_spec"]
        items = [_as_slice(item) for item in (spec if isinstance(spec, list | tuple) else [spec])]
        config = {"op": "get_item", "arguments": {"key": encode_key(items)}}
        return Translated(Layer("Op", config, path, path), (bound["tensor"],), {})
    if layer.symbol not in SYMBOLS:
        raise UnsupportedLayer(
            path, f"tf.{layer.symbol}", "this operation has no counterpart here", "write it with Keras layers"
        )
    op, operand_names, renamed = SYMBOLS[layer.symbol]
    bound = inspect.signature(layer.function).bind(*node.args, **node.kwargs).arguments
    operands: list[Any] = []
    arguments: dict[str, Any] = {}
    for key, value in bound.items():
        if key in operand_names:
            operands.extend(value if isinstance(value, list | tuple) else [value])
        elif key in renamed:
            if value is not None:
                arguments[renamed[key]] = _plain(value)
        elif key != "name" and value not in IGNORED.get(key, ()):
            raise UnsupportedLayer(
                path, f"tf.{layer.symbol}", f"argument {key}={value!r} has no counterpart here", f"leave {key} out"
            )
    if op == "split" and isinstance(arguments["indices_or_sections"], list):
        sizes = arguments["indices_or_sections"]
        arguments["indices_or_sections"] = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
    if op == "gelu":
        arguments.setdefault("approximate", False)
    return Translated(Layer("Op", {"op": op, "arguments": arguments}, path, path), tuple(operands), {})


def _as_slice(item: Any) -> Any:
    return slice(item["start"], item["stop"], item["step"]) if isinstance(item, dict) else item


def _plain(value: Any) -> Any:
    """An argument as JSON: tensors and arrays as lists, dtypes by name."""
    import numpy as np
    import tensorflow as tf

    if isinstance(value, tf.DType):
        return value.name
    if isinstance(value, tf.Tensor | tf.TensorShape | np.ndarray | np.generic):
        return np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _op_layer(node: Node, path: str) -> Translated:
    """An OpLayer of an imported model, back in the flat form."""
    layer = node.layer
    constants: dict[int, Any] = {int(k): v for k, v in layer.scalars.items()}
    constants.update({int(k): as_array(w) for k, w in zip(layer.arrays, layer.weights, strict=True)})
    given = node.args[0]
    tensors = list(given) if isinstance(given, list | tuple) else [given]
    operands = [constants[i] if i in constants else tensors.pop(0) for i in range(len(tensors) + len(constants))]
    return Translated(Layer("Op", {"op": layer.op, "arguments": layer.arguments}, path, path), tuple(operands), {})
