"""Keras to float .tflite by TFLiteConverter, keeping track of which tensor is which layer's.

The converter fuses, splits, renames and folds. So every tensor that the plan can name gets a barrier behind it and
leaves the model that is converted as an output; in the file the barriers are removed and the user's own outputs put
back.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfq_pipeline.errors import GateFailed, UnsupportedLayer
from tfq_pipeline.graph.functional import Functional, LayerSpec, TensorRef
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Graph, Weights
from tfq_pipeline.graph.tflite_graph import TfliteGraph
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.operators import LINEAR


def float_graph(graph: Graph, like: TfliteGraph | None = None) -> TfliteGraph:
    """The graph as a float .tflite, batch size 1 for a Keras model, under the names that `graph` has.

    Args:
        graph: of either backend.
        like: what a graph that differs in the weights of linear operators alone became; its conversion is not repeated.

    Raises:
        UnsupportedLayer: when the converter refuses a model with a layer that has no integer operator.
        GateFailed: when it refuses another, or changes it in an unknown way.
    """
    if isinstance(graph, TfliteGraph):
        return graph
    if like is not None:
        return like.with_weights(_weights(graph))
    if not isinstance(graph, KerasGraph):
        raise TypeError(f"no way from {type(graph).__name__} to .tflite")
    from tfq_pipeline.lowering.barrier import remove_barriers

    net, wanted = _with_barriers(graph)
    try:
        model = fb.read(_convert(net, list(wanted)))
    except GateFailed as error:
        for tensor in graph.tensors():
            if tensor.float_only is not None:
                mend = "replace it, or take it out of the model"
                raise UnsupportedLayer(tensor.name, tensor.type, tensor.float_only, mend) from error
        raise
    remove_barriers(model)
    names = {**TfliteGraph(model).names, **_restore_ports(model, graph, wanted)}
    converted = TfliteGraph(model, names, _layers(TfliteGraph(model, names), graph))
    return converted.with_weights(_weights(graph))


def _weights(graph: Graph) -> dict[str, Weights]:
    return {op.name: Weights(op.kernel, op.bias) for op in graph.linear_ops()}


def _with_barriers(graph: KerasGraph) -> tuple[Functional, dict[TensorRef, TensorRef]]:
    """The model with a barrier behind every tensor that has a scale of its own, and the tensors that have to be
    outputs: references in that model, with the reference in `graph` that each stands for."""
    from tfq_pipeline.lowering.barrier import Barrier

    named = {t.name for t in graph.tensors() if t.same_scale_as is None}
    net, barriers = graph.net, dict[TensorRef, TensorRef]()
    for call in graph.net.calls:
        if call.layer in named and not call.is_input:
            spec = LayerSpec(f"barrier_{call.id}", Barrier, {}, ())
            net = net.with_call_after(TensorRef(call.id), spec)
            barriers[TensorRef(call.id)] = TensorRef(max(c.id for c in net.calls))
    outputs = {barriers.get(ref, ref): ref for ref in graph.net.outputs}
    return net, {**outputs, **{new: old for old, new in barriers.items()}}


def _convert(net: Functional, wanted: Sequence[TensorRef]) -> bytes:
    """The float .tflite with inputs ``in0``, ``in1``... and the wanted tensors as outputs ``out0``, ``out1``..."""
    import tensorflow as tf

    model = net.with_outputs(wanted).build(batch_size=1)

    def call(*inputs: Any) -> dict[str, Any]:
        outputs = model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)
        return {f"out{i}": value for i, value in enumerate(tf.nest.flatten(outputs))}

    specs = [tf.TensorSpec(x.shape, x.dtype, name=f"in{i}") for i, x in enumerate(model.inputs)]
    # The converter prints its folders.
    said = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            function = tf.function(call, autograph=False).get_concrete_function(*specs)
            # The model itself would be saved with every layer traced once more, which takes longer than converting it.
            holder = tf.Module()
            holder.weights = model.weights
            return bytes(tf.lite.TFLiteConverter.from_concrete_functions([function], holder).convert())
    except Exception as error:  # the converter raises a class of its own for every refusal
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise GateFailed(
            f"model '{net.name}': TFLiteConverter refused it: {first}; --verbosity=1 shows all of it"
        ) from error


def _restore_ports(model: Any, graph: KerasGraph, wanted: Mapping[TensorRef, TensorRef]) -> dict[int, str]:
    """Gives the file the user's inputs and outputs, in the user's order and under the layers' names.

    Returns:
        Layer of each float tensor that the plan can name, by index.
    """
    main, (signature,) = model.subgraphs[0], model.signatureDefs
    at = {fb.text(e.name): int(e.tensorIndex) for e in [*signature.inputs, *signature.outputs]}
    inputs = [at[f"in{i}"] for i in range(len(graph.net.inputs))]
    tensors = {old: at[f"out{i}"] for i, old in enumerate(wanted.values())}
    outputs = [tensors[ref] for ref in graph.net.outputs]
    input_names, output_names = (
        [graph.net.call(r).layer for r in refs] for refs in (graph.net.inputs, graph.net.outputs)
    )
    main.inputs, main.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    signature.inputs, signature.outputs = _entries(inputs, input_names), _entries(outputs, output_names)
    return {
        **{index: graph.net.call(ref).layer for ref, index in tensors.items()},
        **{i: name for i, name in zip(inputs, input_names, strict=True) if fb.type_name(main.tensors[i]) == "FLOAT32"},
    }


def _entries(tensors: Sequence[int], names: Sequence[str]) -> list[Any]:
    found = []
    for position, (tensor, name) in enumerate(zip(tensors, names, strict=True)):
        entry = fb.schema().TensorMapT()
        entry.name = name if name not in names[:position] else f"{name}_{position}"
        entry.tensorIndex = tensor
        found.append(entry)
    return found


def _layers(converted: TfliteGraph, graph: KerasGraph) -> dict[int, str]:
    """The Keras layer of each operator: that of a named tensor it writes, that of the linear layer whose weights it
    has, the one that its tensor is called after, or that of an operator that reads it.

    Raises:
        GateFailed: for a linear layer that became no linear operator.
    """
    makers = {int(i): op for op in converted.ops for i in op.operator.outputs}
    known = set(graph.net.layers)
    found: dict[int, str] = {}
    for linear in graph.linear_ops():
        tensors = [i for i, name in converted.names.items() if name == linear.name]
        for index in tensors:
            maker = _linear_behind(converted, makers, index, linear.kernel.shape)
            if maker is None:
                raise GateFailed(
                    f"layer '{linear.name}' ({linear.type}): TFLiteConverter made no {linear.op} of it; "
                    "please report it with the model's summary"
                )
            found[maker.index] = linear.name
    for op in reversed(converted.ops):
        if op.index in found:
            continue
        output = int(op.operator.outputs[0])
        path = fb.text(op.outputs[0].name).split(";")[0].split("/")
        readers = [r.index for r in converted.ops if output in map(int, r.operator.inputs)]
        named = [part for part in (converted.names.get(output, ""), *path) if part in known]
        later = [found[r] for r in readers if r in found]
        if named or later:
            found[op.index] = (named or later)[0]
    return found


def _linear_behind(
    converted: TfliteGraph, makers: Mapping[int, fb.Op], tensor: int, shape: tuple[int, ...]
) -> fb.Op | None:
    """The linear operator that a tensor comes from through operators with one input, with weights of this shape."""
    while (op := makers.get(tensor)) is not None:
        if converted.is_linear(op):
            return op if fb.shape(op.inputs[LINEAR[op.name].weights]) == shape else None
        reads = [i for i in map(int, op.operator.inputs) if i in converted.names]
        if len(reads) != 1:
            return None
        tensor = reads[0]
    return None
