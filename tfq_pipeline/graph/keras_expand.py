"""Layers that TFLite computes in several int8 operators, taken apart so that each step gets a range."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tfq_pipeline.graph.functional import Call, Functional, LayerSpec
from tfq_pipeline.graph.keras_fold import label

Step = tuple[str, str, dict[str, Any]]  # suffix of the name ("" keeps it), layer class, config


def _hard_sigmoid(net: Functional, call: Call) -> list[Step]:
    return [
        ("_shift", "OpLayer", {"op": "add", "scalars": {"1": 3.0}}),
        ("_clip", "ReLU", {"max_value": 6.0}),
        ("", "OpLayer", {"op": "multiply", "scalars": {"1": 1.0 / 6.0}}),
    ]


def _average(net: Functional, call: Call) -> list[Step]:
    count = len(net.reads(call))
    return [("_sum", "Add", {}), ("", "OpLayer", {"op": "multiply", "scalars": {"1": 1.0 / count}})]


def _negative(net: Functional, call: Call) -> list[Step]:
    return [("", "OpLayer", {"op": "multiply", "scalars": {"1": -1.0}})]


# By what the layer computes (see keras_fold.label).
EXPANSIONS: Mapping[str, Callable[[Functional, Call], list[Step]]] = {
    "HardSigmoid": _hard_sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "Average": _average,
    "negative": _negative,
}


def expand(net: Functional) -> Functional:
    """Takes every layer of `EXPANSIONS` apart; each part stands for the layer in reports by its name's beginning."""
    import tf_keras

    from tfq_pipeline.importers.op_layer import LAYERS

    for call in net.calls:
        if call.is_input:
            continue
        spec = net.layers[call.layer]
        steps = EXPANSIONS.get(label(spec))
        if steps is None or (spec.cls.__name__ == "Activation" and label(spec) == "hard_sigmoid"):
            continue
        chain = []
        for suffix, kind, config in steps(net, call):
            cls = LAYERS.get(kind) or getattr(tf_keras.layers, kind)
            name = f"{spec.name}{suffix}" if net.uses(spec.name) == 1 else f"{spec.name}{suffix}_call{call.id}"
            chain.append(LayerSpec(name, cls, cls(name=name, **config).get_config(), ()))
        net = net.expanded(call, chain)
    left = {c.layer for c in net.calls}
    return Functional(
        net.name,
        net.calls,
        {n: s for n, s in net.layers.items() if n in left},
        net.inputs,
        net.outputs,
        net.output_structure,
    )
