"""The float model between reading and building: calls of layers, in order, as plain data.

Both Kerases are read into this form, the canonical rewrites work on it, and the tf_keras model is built from it.
Nothing here knows a framework.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class Ref:
    """Output number `output` of the call with number `call`."""

    call: int
    output: int = 0


@dataclass(frozen=True)
class TensorType:
    """Shape with the batch dimension (None where free) and dtype name."""

    shape: tuple[int | None, ...] | None
    dtype: str = "float32"

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer: compared by identity, since one layer that is called twice shares its weights.

    Attributes:
        kind: class name in `tf_keras.layers` or in `op_layer`; "Op" for an operation without weights of its own,
            whose config is ``{"op": name, "arguments": {...}}``.
        config: arguments of the class, without the name.
        name: proposed name, a path such as "outer/inner/conv".
        origin: path of the layer in the user's model.
        weights: arrays in the order of `get_weights`.
    """

    kind: str
    config: Mapping[str, Any]
    name: str
    origin: str
    weights: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class Call:
    """One call of a layer.

    Attributes:
        id: number that `Ref.call` names.
        args: positional arguments; nested lists, tuples and dicts with `Ref` leaves and constants.
        kwargs: further arguments, of the same form.
        types: of every output, flattened.
    """

    id: int
    layer: Layer
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    types: tuple[TensorType, ...]


@dataclass(frozen=True)
class Flat:
    """A whole model: calls in topological order, inputs (calls of kind "InputLayer") and outputs.

    Attributes:
        probes: (user's layer path, tensor of the source framework, the same tensor here) for every tensor of the
            user's outermost graph; what the comparison walks through when the outputs differ.
    """

    calls: tuple[Call, ...]
    inputs: tuple[Ref, ...]
    outputs: tuple[Ref, ...]
    probes: tuple[tuple[str, Any, Ref], ...] = ()


def map_leaves(value: Any, f: Callable[[Any], Any]) -> Any:
    """The same nest of lists, tuples and dicts with `f` applied to every leaf."""
    if isinstance(value, dict):
        return {k: map_leaves(v, f) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map_leaves(v, f) for v in value)
    return f(value)


def refs_in(value: Any) -> Iterator[Ref]:
    """Every `Ref` of a nest, in order."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from refs_in(v)
    elif isinstance(value, list | tuple):
        for v in value:
            yield from refs_in(v)


Rule = Callable[[Call, "Emitter"], Sequence[Ref] | None]


@dataclass
class Emitter:
    """Collects the calls of a new graph; every call that is applied goes through the rules first.

    A rule returns the tensors that replace the call's outputs, or None when it does not apply. What a rule applies
    in turn goes through the rules again, so a rule's result must not match the rule itself.
    """

    rules: Sequence[Rule] = ()
    calls: dict[int, Call] = field(default_factory=dict)
    _called: set[Layer] = field(default_factory=set)
    _derived: dict[tuple[Layer, str], Layer] = field(default_factory=dict)

    def apply(
        self,
        layer: Layer,
        args: tuple[Any, ...],
        types: tuple[TensorType, ...],
        kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[Ref, ...]:
        call = Call(-1, layer, args, dict(kwargs or {}), types)
        for rule in self.rules:
            found = rule(call, self)
            if found is not None:
                return tuple(found)
        return self.append(call)

    def append(self, call: Call) -> tuple[Ref, ...]:
        # A layer without weights has nothing to share: each call gets its own, so that each has its own ranges later.
        if call.layer in self._called and not call.layer.weights:
            call = replace(call, layer=replace(call.layer))
        self._called.add(call.layer)
        number = len(self.calls)
        self.calls[number] = replace(call, id=number)
        return tuple(Ref(number, i) for i in range(len(call.types)))

    def derived(self, layer: Layer, key: str, make: Callable[[], Layer]) -> Layer:
        """The layer that stands for `layer` in the new graph: the same one at every call of `layer`."""
        return self._derived.setdefault((layer, key), make())

    def producer(self, ref: Ref) -> Call:
        return self.calls[ref.call]

    def type_of(self, ref: Ref) -> TensorType:
        return self.calls[ref.call].types[ref.output]


def rewrite(flat: Flat, rules: Sequence[Rule]) -> Flat:
    """The graph after the rules, without the calls that no output needs (inputs always stay)."""
    emitter = Emitter(rules)
    moved: dict[Ref, Ref] = {}

    def move(leaf: Any) -> Any:
        return moved[leaf] if isinstance(leaf, Ref) else leaf

    for call in flat.calls:
        results = emitter.apply(
            call.layer, map_leaves(call.args, move), call.types, map_leaves(dict(call.kwargs), move)
        )
        moved.update({Ref(call.id, i): ref for i, ref in enumerate(results)})
    return prune(
        Flat(
            tuple(emitter.calls.values()),
            tuple(moved[r] for r in flat.inputs),
            tuple(moved[r] for r in flat.outputs),
            tuple((name, tensor, moved[r]) for name, tensor, r in flat.probes),
        )
    )


def prune(flat: Flat) -> Flat:
    """The graph without calls that neither an output nor an input needs."""
    needed = {r.call for r in (*flat.inputs, *flat.outputs)}
    for call in reversed(flat.calls):
        if call.id in needed:
            needed.update(r.call for r in refs_in([list(call.args), dict(call.kwargs)]))
    return replace(
        flat,
        calls=tuple(c for c in flat.calls if c.id in needed),
        probes=tuple(p for p in flat.probes if p[2].call in needed),
    )
