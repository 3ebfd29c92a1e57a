"""Layers of our own that stand for what tf_keras has no layer for, and the table of operations.

Importing this module imports TensorFlow and registers the layers under the package "tfq", so that saved canonical
models load again. Operation names and the meaning of their arguments are those of `keras.ops`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras


def _axes(axis: Any) -> Any:
    return list(axis) if isinstance(axis, tuple) else axis


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axis=None, keepdims=False: function(x, axis=_axes(axis), keepdims=keepdims)


def _reshape(x: Any, newshape: Sequence[int | None]) -> Any:
    """Free dimensions come from the input where they stand at the same place, so that batches keep their size."""
    static = [-1 if n is None else n for n in newshape]
    if static.count(-1) > 1:
        given = tf.shape(x)
        static = [given[i] if n == -1 else n for i, n in enumerate(static)]
    return tf.reshape(x, static)


def _squeeze(x: Any, axis: Any = None) -> Any:
    return tf.squeeze(x, axis=_axes(axis))


def _expand_dims(x: Any, axis: Any) -> Any:
    axes = [axis] if isinstance(axis, int) else sorted(a % (len(x.shape) + len(axis)) for a in axis)
    for a in axes:
        x = tf.expand_dims(x, a)
    return x


def _split(x: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    if isinstance(indices_or_sections, int):
        return tf.split(x, indices_or_sections, axis=axis)
    stops = [*indices_or_sections, x.shape[axis]]
    return tf.split(x, np.diff([0, *stops]).tolist(), axis=axis)


def _pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float | None = 0) -> Any:
    return tf.pad(x, pad_width, mode=mode.upper(), constant_values=constant_values or 0)


def _swap_axes(x: Any, axis1: int, axis2: int) -> Any:
    order = list(range(len(x.shape)))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return tf.transpose(x, order)


def _move_axis(x: Any, source: Any, destination: Any) -> Any:
    rank = len(x.shape)
    sources = [s % rank for s in np.atleast_1d(source)]
    targets = [d % rank for d in np.atleast_1d(destination)]
    order = [i for i in range(rank) if i not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return tf.transpose(x, order)


def _resize(x: Any, size: Sequence[int], interpolation: str = "bilinear", antialias: bool = False, **_: Any) -> Any:
    return tf.cast(tf.image.resize(x, size, method=interpolation, antialias=antialias), x.dtype)


def _pool(kind: str) -> Callable[..., Any]:
    def pool(x: Any, pool_size: Any, strides: Any = None, padding: str = "valid", **_: Any) -> Any:
        window = np.broadcast_to(pool_size, len(x.shape) - 2).tolist()
        steps = np.broadcast_to(pool_size if strides is None else strides, len(x.shape) - 2).tolist()
        return tf.nn.pool(x, window, kind, strides=steps, padding=padding.upper())

    return pool


def _conv(
    x: Any, kernel: Any, strides: Any = 1, padding: str = "valid", dilation_rate: Any = 1, data_format: Any = None
) -> Any:
    if data_format not in (None, "channels_last"):
        raise ValueError(f"conv has data_format={data_format!r}; only channels_last is known here")
    return tf.nn.convolution(x, kernel, _axes(strides), padding.upper(), dilations=_axes(dilation_rate))


def _extremum(reduce: Callable[..., Any], pair: Callable[..., Any]) -> Callable[..., Any]:
    def extremum(x: Any, axis: Any = None, keepdims: bool = False, initial: float | None = None) -> Any:
        found = reduce(x, axis=_axes(axis), keepdims=keepdims)
        return found if initial is None else pair(found, initial)

    return extremum


def _arg(function: Callable[..., Any]) -> Callable[..., Any]:
    def arg(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
        found = function(x if axis is not None else tf.reshape(x, [-1]), axis=axis or 0, output_type=tf.int32)
        return tf.expand_dims(found, axis) if keepdims and axis is not None else found

    return arg


def _take(x: Any, indices: Any, axis: int | None = None) -> Any:
    return tf.gather(tf.reshape(x, [-1]), indices) if axis is None else tf.gather(x, indices, axis=axis)


def _variance(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return tf.math.reduce_variance(x, axis=_axes(axis), keepdims=keepdims)


def _normalize(x: Any, axis: int = -1, order: int = 2, epsilon: float = 1e-7) -> Any:
    return x / tf.maximum(tf.norm(x, ord=order, axis=axis, keepdims=True), epsilon)


def encode_key(key: Any) -> list[Any]:
    """An index expression as JSON: slices as {"slice": [start, stop, step]}, `...` and `None` by name."""
    items = key if isinstance(key, tuple | list) else (key,)
    encoded: list[Any] = []
    for item in items:
        if isinstance(item, slice):
            encoded.append({"slice": [None if v is None else int(v) for v in (item.start, item.stop, item.step)]})
        elif item is Ellipsis:
            encoded.append("ellipsis")
        elif item is None:
            encoded.append("newaxis")
        else:
            encoded.append(int(item))
    return encoded


def _get_item(x: Any, key: Sequence[Any]) -> Any:
    words = {"ellipsis": Ellipsis, "newaxis": None}
    return x[tuple(slice(*k["slice"]) if isinstance(k, dict) else words[k] if isinstance(k, str) else k for k in key)]


def _soft_shrink(x: Any, threshold: float = 0.5) -> Any:
    return tf.sign(x) * tf.maximum(tf.abs(x) - threshold, 0.0)


def _hard_shrink(x: Any, threshold: float = 0.5) -> Any:
    return tf.where(tf.abs(x) > threshold, x, tf.zeros_like(x))


def _glu(x: Any, axis: int = -1) -> Any:
    a, b = tf.split(x, 2, axis=axis)
    return a * tf.sigmoid(b)


def hard_sigmoid(x: Any) -> Any:
    """relu6(x + 3) / 6, spelled as TFLite's converter knows it."""
    return tf.nn.relu6(x + 3.0) * (1.0 / 6.0)


def hard_swish(x: Any) -> Any:
    """x relu6(x + 3) / 6, spelled as TFLite's converter fuses it into HARD_SWISH."""
    return x * tf.nn.relu6(x + 3.0) * (1.0 / 6.0)


OPS: Mapping[str, Callable[..., Any]] = {
    # two operands
    "add": tf.add,
    "subtract": tf.subtract,
    "multiply": tf.multiply,
    "divide": tf.divide,
    "true_divide": tf.divide,
    "floor_divide": tf.math.floordiv,
    "mod": tf.math.floormod,
    "power": tf.pow,
    "maximum": tf.maximum,
    "minimum": tf.minimum,
    "matmul": tf.matmul,
    "equal": tf.equal,
    "not_equal": tf.not_equal,
    "greater": tf.greater,
    "greater_equal": tf.greater_equal,
    "less": tf.less,
    "less_equal": tf.less_equal,
    "logical_and": tf.logical_and,
    "logical_or": tf.logical_or,
    "where": tf.where,
    # one operand
    "absolute": tf.abs,
    "abs": tf.abs,
    "negative": tf.negative,
    "sign": tf.sign,
    "square": tf.square,
    "sqrt": tf.sqrt,
    "rsqrt": tf.math.rsqrt,
    "reciprocal": tf.math.reciprocal,
    "exp": tf.exp,
    "log": tf.math.log,
    "log1p": tf.math.log1p,
    "sin": tf.sin,
    "cos": tf.cos,
    "erf": tf.math.erf,
    "floor": tf.floor,
    "ceil": tf.math.ceil,
    "round": tf.round,
    "logical_not": tf.logical_not,
    "cast": lambda x, dtype: tf.cast(x, dtype),
    "clip": lambda x, x_min, x_max: tf.clip_by_value(x, x_min, x_max),
    # activations
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "leaky_relu": lambda x, negative_slope=0.2: tf.nn.leaky_relu(x, negative_slope),
    "elu": lambda x, alpha=1.0: tf.where(x > 0, x, alpha * tf.math.expm1(tf.minimum(x, 0.0))),
    "selu": tf.nn.selu,
    "celu": lambda x, alpha=1.0: tf.maximum(x, 0.0) + alpha * tf.math.expm1(tf.minimum(x, 0.0) / alpha),
    "gelu": lambda x, approximate=True: tf.nn.gelu(x, approximate),
    "silu": lambda x: x * tf.sigmoid(x),
    "hard_silu": hard_swish,
    "hard_sigmoid": hard_sigmoid,
    "sigmoid": tf.sigmoid,
    "tanh": tf.tanh,
    "softplus": tf.nn.softplus,
    "softsign": tf.nn.softsign,
    "softmax": lambda x, axis=-1: tf.nn.softmax(x, axis=axis),
    "log_softmax": lambda x, axis=-1: tf.nn.log_softmax(x, axis=axis),
    "log_sigmoid": tf.math.log_sigmoid,
    "hard_tanh": lambda x: tf.clip_by_value(x, -1.0, 1.0),
    "tanh_shrink": lambda x: x - tf.tanh(x),
    "soft_shrink": _soft_shrink,
    "hard_shrink": _hard_shrink,
    "squareplus": lambda x, b=4: (x + tf.sqrt(tf.square(x) + b)) / 2,
    "glu": _glu,
    # reductions
    "mean": _reduction(tf.reduce_mean),
    "sum": _reduction(tf.reduce_sum),
    "max": _extremum(tf.reduce_max, tf.maximum),
    "min": _extremum(tf.reduce_min, tf.minimum),
    "prod": lambda x, axis=None, keepdims=False, **_: tf.reduce_prod(x, axis=_axes(axis), keepdims=keepdims),
    "var": _variance,
    "std": lambda x, axis=None, keepdims=False: tf.sqrt(_variance(x, axis, keepdims)),
    "argmax": _arg(tf.argmax),
    "argmin": _arg(tf.argmin),
    "normalize": _normalize,
    "l2_normalize": lambda x, axis=None, epsilon=1e-12: tf.math.l2_normalize(x, axis=_axes(axis), epsilon=epsilon),
    # shapes
    "reshape": _reshape,
    "transpose": lambda x, axes=None: tf.transpose(x, axes),
    "squeeze": _squeeze,
    "expand_dims": _expand_dims,
    "concatenate": lambda *xs, axis=-1: tf.concat(xs, axis=axis),
    "stack": lambda *xs, axis=0: tf.stack(xs, axis=axis),
    "split": _split,
    "tile": lambda x, repeats: tf.tile(x, repeats),
    "repeat": lambda x, repeats, axis=None: tf.repeat(x, repeats, axis=axis),
    "pad": _pad,
    "flip": lambda x, axis=None: tf.reverse(x, list(np.atleast_1d(range(len(x.shape)) if axis is None else axis))),
    "swapaxes": _swap_axes,
    "moveaxis": _move_axis,
    "broadcast_to": lambda x, shape: tf.broadcast_to(x, shape),
    "get_item": _get_item,
    "take": _take,
    "one_hot": lambda x, num_classes, axis=-1, dtype="float32", **_: tf.one_hot(x, num_classes, axis=axis, dtype=dtype),
    "einsum": lambda *xs, subscripts: tf.einsum(subscripts, *xs),
    # images
    "resize": _resize,
    "conv": _conv,
    "max_pool": _pool("MAX"),
    "average_pool": _pool("AVG"),
    "depth_to_space": lambda x, block_size: tf.nn.depth_to_space(x, block_size),
    "space_to_depth": lambda x, block_size: tf.nn.space_to_depth(x, block_size),
}


@tf_keras.saving.register_keras_serializable(package="tfq")
class OpLayer(tf_keras.layers.Layer):
    """One operation of `OPS` as a layer; takes one tensor or a list of tensors.

    Args:
        op: name in `OPS`.
        arguments: settings of the operation, by name.
        scalars: {operand position as text: number} for operands that are constant numbers.
        arrays: {operand position as text: {"shape": [...], "dtype": name}} for operands that are constant arrays;
            their values are the layer's weights, in order of position, and are not trained.

    Raises:
        ValueError: unknown op.
    """

    def __init__(
        self,
        op: str,
        arguments: Mapping[str, Any] | None = None,
        scalars: Mapping[str, float] | None = None,
        arrays: Mapping[str, Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if op not in OPS:
            raise ValueError(f"OpLayer does not know op={op!r}")
        self.op = op
        self.arguments = dict(arguments or {})
        self.scalars = dict(scalars or {})
        self.arrays = {k: dict(v) for k, v in sorted((arrays or {}).items(), key=lambda item: int(item[0]))}
        self._tables = {
            position: self.add_weight(
                name=f"operand_{position}", shape=tuple(spec["shape"]), dtype=spec["dtype"], trainable=False
            )
            for position, spec in self.arrays.items()
        }

    def call(self, inputs: Any) -> Any:
        tensors = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        constants = {**{int(k): v for k, v in self.scalars.items()}, **{int(k): v for k, v in self._tables.items()}}
        operands = [constants[i] if i in constants else tensors.pop(0) for i in range(len(tensors) + len(constants))]
        # AutoGraph mistakes one lambda of the table for another, and there is nothing for it to convert.
        return tf.autograph.experimental.do_not_convert(OPS[self.op])(*operands, **self.arguments)

    def get_config(self) -> dict[str, Any]:
        own = {"op": self.op, "arguments": self.arguments, "scalars": self.scalars, "arrays": self.arrays}
        return {**super().get_config(), **own}


@tf_keras.saving.register_keras_serializable(package="tfq")
class HardSigmoid(tf_keras.layers.Layer):
    """relu6(x + 3) / 6: Keras 3's hard sigmoid (Keras 2's is another function). Any shape, float32."""

    def call(self, inputs: Any) -> Any:
        return hard_sigmoid(inputs)


@tf_keras.saving.register_keras_serializable(package="tfq")
class HardSwish(tf_keras.layers.Layer):
    """x relu6(x + 3) / 6 (Howard et al. 2019, https://arxiv.org/abs/1905.02244). Any shape, float32."""

    def call(self, inputs: Any) -> Any:
        return hard_swish(inputs)


@tf_keras.saving.register_keras_serializable(package="tfq")
class TakeChannels(tf_keras.layers.Layer):
    """Some channels of a tensor, [..., channels] to [..., len(indices)]."""

    def __init__(self, indices: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.indices = list(indices)

    def call(self, inputs: Any) -> Any:
        return tf.gather(inputs, self.indices, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "indices": self.indices}


LAYERS: Mapping[str, type] = {
    "OpLayer": OpLayer,
    "HardSigmoid": HardSigmoid,
    "HardSwish": HardSwish,
    "TakeChannels": TakeChannels,
}
