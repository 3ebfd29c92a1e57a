"""A flat functional tf_keras model as a list of calls that can be edited and built again.

Keras ties the structure of a model to live layer objects. Here a model is plain data: each `Call` names its layer
and the tensors it reads, each `LayerSpec` holds a layer's class, config and weights. An edit returns new data;
`build` makes a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfq_pipeline.graph.protocol import Normal

Ref = tuple[int, int]  # (index of the call that made the tensor, position among its outputs)


@dataclass(frozen=True)
class TensorRef:
    """Stands where a Keras tensor stood in a call's arguments."""

    call: int
    output: int = 0


@dataclass(frozen=True, eq=False)
class LayerSpec:
    """A layer taken apart: what is needed to make an equal one, and what batch norm said of its outputs."""

    name: str
    cls: Any
    config: dict[str, Any]
    weights: tuple[np.ndarray, ...]
    normal: Normal | None = None

    def make(self) -> Any:
        return self.cls.from_config(dict(self.config, name=self.name))


@dataclass(frozen=True, eq=False)
class Call:
    """One use of a layer. `id` stays the same through edits, so that references hold."""

    id: int
    layer: str
    args: Any
    kwargs: Any
    shapes: tuple[tuple[int | None, ...], ...]
    is_input: bool = False


@dataclass(frozen=True, eq=False)
class Functional:
    """A functional model as data: calls in execution order, layers by name, references of inputs and outputs."""

    name: str
    calls: tuple[Call, ...]
    layers: dict[str, LayerSpec]
    inputs: tuple[TensorRef, ...]
    outputs: tuple[TensorRef, ...]
    output_structure: Any

    def call(self, ref: TensorRef) -> Call:
        return next(c for c in self.calls if c.id == ref.call)

    def reads(self, call: Call) -> tuple[TensorRef, ...]:
        return tuple(_refs(call.args)) + tuple(_refs(call.kwargs))

    def consumers(self) -> dict[Ref, list[Call]]:
        """Calls that read each tensor; a model output counts as no call."""
        found: dict[Ref, list[Call]] = {}
        for call in self.calls:
            for ref in self.reads(call):
                found.setdefault((ref.call, ref.output), []).append(call)
        return found

    def uses(self, layer: str) -> int:
        return sum(call.layer == layer for call in self.calls)

    def is_output(self, ref: TensorRef) -> bool:
        return ref in self.outputs

    def with_layer(self, spec: LayerSpec) -> Functional:
        return replace(self, layers={**self.layers, spec.name: spec})

    def without_call(self, call: Call) -> Functional:
        """Removes a call with one input: its readers read what it read."""
        (source,) = self.reads(call)
        target = TensorRef(call.id)

        def swap(ref: TensorRef) -> TensorRef:
            return source if ref == target else ref

        calls = tuple(
            replace(c, args=_map(c.args, swap), kwargs=_map(c.kwargs, swap)) for c in self.calls if c.id != call.id
        )
        left = {c.layer for c in calls}
        return replace(
            self,
            calls=calls,
            layers={name: spec for name, spec in self.layers.items() if name in left},
            outputs=tuple(swap(ref) for ref in self.outputs),
            output_structure=_map(self.output_structure, swap),
        )

    def with_call_after(self, source: TensorRef, spec: LayerSpec) -> Functional:
        """Adds a layer with one input behind a tensor: every reader of the tensor reads the layer instead."""
        at = next(i for i, c in enumerate(self.calls) if c.id == source.call)
        added = Call(
            max(c.id for c in self.calls) + 1, spec.name, (source,), {}, (self.calls[at].shapes[source.output],)
        )
        target = TensorRef(added.id)

        def swap(ref: TensorRef) -> TensorRef:
            return target if ref == source else ref

        after = tuple(replace(c, args=_map(c.args, swap), kwargs=_map(c.kwargs, swap)) for c in self.calls[at + 1 :])
        return replace(
            self.with_layer(spec),
            calls=(*self.calls[: at + 1], added, *after),
            outputs=tuple(swap(ref) for ref in self.outputs),
            output_structure=_map(self.output_structure, swap),
        )

    def expanded(
        self, call: Call, chain: Sequence[LayerSpec], shapes: Sequence[tuple[int | None, ...]] | None = None
    ) -> Functional:
        """Puts a chain of layers in the place of a call: the first reads what it read, the last takes its name and
        its readers.

        Args:
            call: with one output.
            chain: the last of which has the name of the call's layer.
            shapes: of what each writes, where it is not that of the call.
        """
        written = shapes or [call.shapes[0]] * len(chain)
        ids = [*range(first := max(c.id for c in self.calls) + 1, first + len(chain) - 1), call.id]
        calls = [
            Call(
                id_,
                spec.name,
                call.args if position == 0 else (TensorRef(ids[position - 1]),),
                {},
                (shape,),
            )
            for position, (id_, spec, shape) in enumerate(zip(ids, chain, written, strict=True))
        ]
        at = self.calls.index(call)
        layers = {**self.layers, **{spec.name: spec for spec in chain}}
        return replace(self, calls=(*self.calls[:at], *calls, *self.calls[at + 1 :]), layers=layers)

    def with_outputs(self, refs: Sequence[TensorRef]) -> Functional:
        """Other tensors as outputs; calls that none of them needs are left out, inputs stay."""
        needed = {ref.call for ref in refs}
        for call in reversed(self.calls):
            if call.id in needed:
                needed |= {ref.call for ref in self.reads(call)}
        calls = tuple(c for c in self.calls if c.id in needed or c.is_input)
        left = {c.layer for c in calls}
        layers = {name: spec for name, spec in self.layers.items() if name in left}
        return replace(self, calls=calls, layers=layers, outputs=tuple(refs), output_structure=list(refs))

    def build(self, wrap: Callable[[LayerSpec], Any] | None = None, batch_size: int | None = None) -> Any:
        """Makes a tf_keras model.

        Args:
            wrap: makes the layer object for a spec; the default makes the layer itself.
            batch_size: batch dimension of the inputs, None to leave it free.
        """
        import tf_keras

        make = wrap or LayerSpec.make
        made: dict[str, Any] = {}
        tensors: dict[Ref, Any] = {}
        for call in self.calls:
            spec = self.layers[call.layer]
            if call.is_input:
                shape = call.shapes[0]
                tensors[call.id, 0] = tf_keras.Input(
                    shape=shape[1:], batch_size=batch_size, dtype=spec.config.get("dtype") or "float32", name=spec.name
                )
                continue
            if call.layer not in made:
                made[call.layer] = make(spec)

            def live(ref: TensorRef) -> Any:
                return tensors[ref.call, ref.output]

            result = made[call.layer](*_map(call.args, live), **_map(call.kwargs, live))
            for position, tensor in enumerate(_flat(result)):
                tensors[call.id, position] = tensor
        inputs = [tensors[ref.call, ref.output] for ref in self.inputs]
        outputs = _map(self.output_structure, lambda ref: tensors[ref.call, ref.output])
        model = tf_keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name=self.name)
        if wrap is None:
            for name, layer in made.items():
                layer.set_weights([np.asarray(w) for w in self.layers[name].weights])
        return model


def disassemble(model: Any) -> Functional:
    """Takes a built, flat, functional tf_keras model apart."""
    import tensorflow as tf

    calls: list[Call] = []
    layers: dict[str, LayerSpec] = {}
    where: dict[int, TensorRef] = {}
    nodes = [node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]]

    def ref(value: Any) -> Any:
        return where.get(id(value), value)

    for index, node in enumerate(nodes):
        layer = node.layer
        if layer.name not in layers:
            layers[layer.name] = LayerSpec(
                layer.name, type(layer), layer.get_config(), tuple(np.asarray(w) for w in layer.get_weights())
            )
        outputs = tf.nest.flatten(node.outputs)
        calls.append(
            Call(
                index,
                layer.name,
                () if node.is_input else tf.nest.map_structure(ref, node.call_args),
                {} if node.is_input else tf.nest.map_structure(ref, dict(node.call_kwargs)),
                tuple(tuple(t.shape) for t in outputs),
                node.is_input,
            )
        )
        for position, tensor in enumerate(outputs):
            where[id(tensor)] = TensorRef(index, position)
    return Functional(
        model.name,
        tuple(calls),
        layers,
        tuple(where[id(t)] for t in model.inputs),
        tuple(where[id(t)] for t in tf.nest.flatten(model.outputs)),
        tf.nest.map_structure(ref, model._nested_outputs),
    )


def _map(value: Any, change: Callable[[TensorRef], Any]) -> Any:
    if isinstance(value, TensorRef):
        return change(value)
    if isinstance(value, dict):
        return {key: _map(item, change) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_map(item, change) for item in value)
    if isinstance(value, list):
        return [_map(item, change) for item in value]
    return value


def _refs(value: Any) -> Iterable[TensorRef]:
    if isinstance(value, TensorRef):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _refs(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _refs(item)


def _flat(value: Any) -> list[Any]:
    import tensorflow as tf

    return list(tf.nest.flatten(value))
