"""Lowering: a folded Keras graph and its Plan become one .tflite."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tfq_pipeline.annotate.scheme import PREFIX, annotate
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.lowering.convert import IoType, convert_fake_quantized, convert_float
from tfq_pipeline.lowering.rewrite_weights import match_layers, rewrite_weights
from tfq_pipeline.plan import Plan
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite import metadata


def lower_float(graph: KerasGraph) -> bytes:
    """The float .tflite of a graph, batch size 1: what the quantized file is compared with."""
    return convert_float(graph.net.build(batch_size=1))


def lower(
    graph: KerasGraph,
    plan: Plan,
    inputs: IoType,
    outputs: IoType,
    about: Mapping[str, Any],
    sources: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """The integer .tflite of a plan, batch size 1.

    Args:
        graph: folded, with the weights that the plan was made for.
        plan: weights and activations by layer.
        inputs, outputs: "int8" or "float32".
        about: goes into the file's metadata, beside the layer of each operator.
        sources: name in the user's model of layers that are called something else here.

    Raises:
        GateFailed: when the converter refuses the model or changes it in an unknown way.
    """
    model = fb.read(convert_fake_quantized(annotate(graph, plan, batch_size=1), inputs, outputs))
    linear = graph.linear_ops()
    layers = match_layers(model, linear, PREFIX)
    rewrite_weights(model, linear, plan, layers)
    _name_signature(model, graph)
    operators = {
        str(index): {"layer": layer, "source": sources.get(layer, layer), "bits": plan.weights[layer].bits}
        for index, layer in layers.items()
    }
    metadata.write(model, {**about, "operators": operators})
    return fb.pack(model)


def _name_signature(model: Any, graph: KerasGraph) -> None:
    """The signature speaks of the user's layers, not of the wrappers around them."""
    for signature in model.signatureDefs or []:
        for entry in [*signature.inputs, *signature.outputs]:
            entry.name = fb.text(entry.name).removeprefix(PREFIX)
