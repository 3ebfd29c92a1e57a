"""Side paths of the Keras backend: a linear layer as two of its kind, an Add, and its activation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfq_pipeline.graph.functional import Call, Functional, LayerSpec, TensorRef
from tfq_pipeline.graph.keras_fold import kernel_and_bias, kind
from tfq_pipeline.graph.keras_layers import LINEAR
from tfq_pipeline.graph.protocol import CHANNELS, MAIN, SIDE, SUM, SidePath


def with_side_path(net: Functional, name: str, path: SidePath) -> Functional:
    """The model with a layer that is called once taken apart, see `Graph.with_side_paths`."""
    import tf_keras

    from tfq_pipeline.importers.op_layer import TakeChannels

    call = next(c for c in net.calls if c.layer == name)
    spec = net.layers[name]
    activation = spec.config.get("activation")
    plain = activation in (None, "linear")
    taken = TakeChannels(path.channels.tolist(), name=f"{name}{CHANNELS}")
    added = tf_keras.layers.Add(name=name if plain else f"{name}{SUM}")
    kernel, bias = kernel_and_bias(spec)
    specs = {
        "main": _part(spec, f"{name}{MAIN}", path.main, bias, kernel.shape),
        "taken": LayerSpec(taken.name, TakeChannels, taken.get_config(), ()),
        "side": _part(spec, f"{name}{SIDE}", path.side, None, kernel.shape),
        "added": LayerSpec(added.name, type(added), added.get_config(), ()),
    }
    if not plain:
        last = tf_keras.layers.Activation(activation, name=name)
        specs["activated"] = LayerSpec(name, type(last), last.get_config(), ())
    # The last of them takes the id, and with it the readers.
    free = max(c.id for c in net.calls) + 1
    ids = dict(zip(specs, [*range(free, free + len(specs) - 1), call.id], strict=True))
    (source,) = net.reads(call)
    reads = {
        "main": (source,),
        "taken": (source,),
        "side": (TensorRef(ids["taken"]),),
        "added": ([TensorRef(ids["main"]), TensorRef(ids["side"])],),
        "activated": (TensorRef(ids["added"]),),
    }
    shapes = {"taken": ((*net.call(source).shapes[source.output][:-1], len(path.channels)),)}
    calls = [Call(ids[k], made.name, reads[k], {}, shapes.get(k, call.shapes)) for k, made in specs.items()]
    at = net.calls.index(call)
    layers = {**{n: s for n, s in net.layers.items() if n != name}, **{s.name: s for s in specs.values()}}
    return replace(net, calls=(*net.calls[:at], *calls, *net.calls[at + 1 :]), layers=layers)


def _part(spec: LayerSpec, name: str, kernel: np.ndarray, bias: np.ndarray | None, shape: tuple[int, ...]) -> LayerSpec:
    """A layer of the same kind without activation; `kernel` in TFLite layout, `shape` that of the whole in Keras'."""
    values = LINEAR[kind(spec)].from_tflite(kernel, shape).astype(np.float32)
    config = {**spec.config, "name": name, "activation": "linear", "use_bias": bias is not None}
    return LayerSpec(name, spec.cls, config, (values,) if bias is None else (values, bias))
