"""Walks a functional model of either Keras into the flat form: nested models and custom layers are opened."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tfq_pipeline.errors import BadInput, UnsupportedLayer
from tfq_pipeline.importers.ir import Call, Flat, Layer, Ref, TensorType, map_leaves

# Layers whose inference differs when they are called with training=True.
TRAINING_DEPENDENT = ("BatchNormalization", "Dropout", "Gaussian", "AlphaDropout", "Random", "SpectralNormalization")


@dataclass(frozen=True)
class Node:
    """One call in the source framework: the layer, its arguments, and its output tensors, flattened."""

    layer: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: Sequence[Any]


@dataclass(frozen=True)
class Graph:
    """A functional graph of the source framework: nodes in topological order, inputs and outputs flattened."""

    nodes: Sequence[Node]
    inputs: Sequence[Any]
    outputs: Sequence[Any]


@dataclass(frozen=True)
class Translated:
    """A plain layer call; `then` is a function of the user's to apply to its output (an activation of theirs)."""

    layer: Layer
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    then: Callable[[Any], Any] | None = None


# By class name, what makes a function of the same arguments out of a layer, built of layers that can be ported.
Replacements = Mapping[str, Callable[[Any], Callable[..., Any]]]


class Dialect(Protocol):
    """What differs between the two Kerases."""

    def is_tensor(self, leaf: Any) -> bool: ...

    def flatten(self, nest: Any) -> list[Any]: ...

    def constant(self, leaf: Any) -> Any:
        """A variable or eager tensor as a numpy array; any other leaf as it is."""
        ...

    def type_of(self, tensor: Any) -> TensorType: ...

    def is_input(self, layer: Any) -> bool: ...

    def graph_of(self, layer: Any) -> Graph | None:
        """The graph inside a functional or sequential model; None for any other layer."""
        ...

    def reorder(self, layer: Any, nest: Any) -> list[Any]:
        """The tensors a nested model is called with, in the order of its inputs."""
        ...

    def translate(self, node: Node, path: str) -> Translated | None:
        """The call as one of a plain layer; None when the layer has to be traced."""
        ...

    def trace(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Graph:
        """The graph that calling `function` makes; its inputs stand for the tensors among the arguments, in order."""
        ...


@dataclass
class Walker:
    """Reads one model. Use `read` once."""

    dialect: Dialect
    replace: Replacements = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    probes: list[tuple[str, Any, Ref]] = field(default_factory=list)
    # Tensors are known by identity, so every traced graph has to outlive the walk.
    alive: list[Graph] = field(default_factory=list)
    _replaced: dict[int, Callable[..., Any]] = field(default_factory=dict)

    def read(self, graph: Graph, input_names: Sequence[str]) -> Flat:
        inputs = []
        for tensor, name in zip(graph.inputs, input_names, strict=True):
            kind = self.dialect.type_of(tensor)
            config = {"batch_shape": kind.shape, "dtype": kind.dtype}
            inputs.append(self._emit(Layer("InputLayer", config, name, name), (), {}, (kind,))[0])
        outputs = self._open(graph, inputs, "", training=False)
        return Flat(tuple(self.calls), tuple(inputs), tuple(outputs), tuple(self.probes))

    def _emit(
        self, layer: Layer, args: tuple[Any, ...], kwargs: Mapping[str, Any], types: tuple[TensorType, ...]
    ) -> list[Ref]:
        number = len(self.calls)
        self.calls.append(Call(number, layer, args, kwargs, types))
        return [Ref(number, i) for i in range(len(types))]

    def _open(self, graph: Graph, fed: Sequence[Ref], prefix: str, training: bool) -> list[Ref]:
        self.alive.append(graph)
        known = {id(tensor): ref for tensor, ref in zip(graph.inputs, fed, strict=True)}

        def convert(leaf: Any) -> Any:
            return known[id(leaf)] if self.dialect.is_tensor(leaf) else self.dialect.constant(leaf)

        for node in graph.nodes:
            if all(id(t) in known for t in node.outputs):
                continue
            if self.dialect.is_input(node.layer):
                path = prefix + node.layer.name
                raise BadInput(f"input '{path}' of the model is not connected; list it among the model's inputs")
            refs = self._node(node, convert, prefix + node.layer.name, training)
            known.update({id(t): ref for t, ref in zip(node.outputs, refs, strict=True)})
            if not prefix:
                self.probes.extend((node.layer.name, t, r) for t, r in zip(node.outputs, refs, strict=True))
        return [known[id(t)] for t in graph.outputs]

    def _node(self, node: Node, convert: Callable[[Any], Any], path: str, training: bool) -> list[Ref]:
        training = bool(node.kwargs.get("training") or training)
        inner = self.dialect.graph_of(node.layer)
        if inner is not None:
            fed = [convert(t) for t in self.dialect.reorder(node.layer, node.args[0] if node.args else node.kwargs)]
            self._same_ranks(path, node, inner)
            return self._open(inner, fed, path + "/", training)
        if training and type(node.layer).__name__.startswith(TRAINING_DEPENDENT):
            raise UnsupportedLayer(
                path,
                type(node.layer).__name__,
                "it is called with training=True, so its output depends on the batch or on chance",
                "build the model without training=True",
            )
        make = self.replace.get(type(node.layer).__name__)
        if make is not None:
            # That of a shared layer is made once, so that it shares its weights too.
            if id(node.layer) not in self._replaced:
                self._replaced[id(node.layer)] = make(node.layer)
            return self._trace(self._replaced[id(node.layer)], node, convert, path, training)
        found = self.dialect.translate(node, path)
        if found is None:
            return self._trace(node.layer.call, node, convert, path, training)
        types = tuple(self.dialect.type_of(t) for t in node.outputs)
        refs = self._emit(found.layer, map_leaves(found.args, convert), map_leaves(dict(found.kwargs), convert), types)
        if found.then is not None:
            step = Node(node.layer, (node.outputs[0],), {}, node.outputs)
            return self._trace(found.then, step, lambda _leaf: refs[0], path, training)
        return refs

    def _same_ranks(self, path: str, node: Node, inner: Graph) -> None:
        outer = self.dialect.reorder(node.layer, node.args[0] if node.args else node.kwargs)
        for given, expected in zip(outer, inner.inputs, strict=True):
            got, want = self.dialect.type_of(given), self.dialect.type_of(expected)
            if got.rank != want.rank:
                raise UnsupportedLayer(
                    path,
                    type(node.layer).__name__,
                    f"it is called with a tensor of shape {got.shape} where its input has shape {want.shape}",
                    "give the nested model a tensor of its own input's rank",
                )

    def _trace(
        self, function: Callable[..., Any], node: Node, convert: Callable[[Any], Any], path: str, training: bool
    ) -> list[Ref]:
        kind = type(node.layer).__name__
        kwargs = {k: v for k, v in node.kwargs.items() if k not in ("training", "mask")}
        try:
            graph = self.dialect.trace(function, node.args, kwargs)
        except BadInput:
            raise
        except Exception as error:  # the user's code may raise anything when it meets symbolic tensors
            raise UnsupportedLayer(
                path,
                kind,
                f"Keras 2 has no such layer, and following its call() failed with {_one_line(error)}",
                "write its call() with Keras layers and keras.ops alone, or replace it by built-in layers",
            ) from error
        if len(graph.outputs) != len(node.outputs):
            raise UnsupportedLayer(
                path, kind, "its call() gives another number of tensors when it is followed", "return plain tensors"
            )
        fed = [convert(t) for t in self.dialect.flatten([list(node.args), kwargs]) if self.dialect.is_tensor(t)]
        return self._open(graph, fed, path + "/", training)


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:160] if lines else 'no message'}"


def as_array(value: Any) -> np.ndarray:
    """A variable or tensor as float32 where its dtype is a shorter float, else in its own dtype."""
    dtype = str(getattr(value, "dtype", ""))
    if "bfloat16" in dtype or "float16" in dtype:
        import tensorflow as tf

        return np.asarray(tf.cast(tf.convert_to_tensor(value), tf.float32))
    return np.asarray(value)


def in_float32(model: Any) -> Any:
    """The model itself, or a float32 copy where a layer computes in a shorter float (mixed precision).

    Raises:
        BadInput: such a model is subclassed, so that it cannot be copied from its config.
    """
    short = [m.name for m in model._flatten_layers() if getattr(m, "compute_dtype", None) in ("float16", "bfloat16")]
    if not short:
        return model
    try:
        copy = type(model).from_config(map_leaves(model.get_config(), _float32))
        if not copy.built:
            copy.build(model.input_shape)
        copy.set_weights([as_array(w) for w in model.weights])
    except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
        raise BadInput(
            f"layer '{short[0]}' computes in half precision and the model cannot be copied to float32 "
            f"({_one_line(error)}); build it with the float32 dtype policy"
        ) from error
    return copy


def _float32(value: Any) -> Any:
    return "float32" if value in ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16") else value


def call_arguments(layer: Any, node: Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call's first argument, and the others by name, without what has no meaning at inference."""
    try:
        bound = dict(inspect.signature(layer.call).bind(*node.args, **node.kwargs).arguments)
    except TypeError:
        return node.args, dict(node.kwargs)
    bound.update(bound.pop("kwargs", {}))
    bound = {name: value for i, (name, value) in enumerate(bound.items()) if i == 0 or value is not None}
    first = next(iter(bound))
    value = bound.pop(first)
    return (value,), {k: v for k, v in bound.items() if k not in ("training", "mask")}
