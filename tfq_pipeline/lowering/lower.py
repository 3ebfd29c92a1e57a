"""Lowering: a folded graph and its Plan become one .tflite."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tfq_pipeline.graph.protocol import Graph
from tfq_pipeline.graph.tflite_graph import TfliteGraph
from tfq_pipeline.lowering.convert import float_graph
from tfq_pipeline.lowering.integer import IoType, write_plan
from tfq_pipeline.plan import Plan
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite import metadata


def lower_float(graph: Graph) -> bytes:
    """The float .tflite of a graph: what the quantized file is compared with."""
    return float_graph(graph).data


def lower(
    graph: Graph,
    plan: Plan,
    inputs: IoType,
    outputs: IoType,
    about: Mapping[str, Any],
    sources: Mapping[str, str] = MappingProxyType({}),
    like: TfliteGraph | None = None,
) -> bytes:
    """The .tflite of a plan, batch size 1 for a Keras graph.

    Args:
        graph: folded, with the weights that the plan was made for.
        plan: weights and activations by layer.
        inputs, outputs: "float32", or the type that the plan has for them.
        about: goes into the file's metadata, beside the layer of each operator.
        sources: name in the user's model of layers that are called something else here.
        like: see `float_graph`.

    Raises:
        BadInput: for a type at an end that is not the plan's.
        UnsupportedLayer: for an integer operator that reads or writes a tensor without a scale.
        GateFailed: when the converter refuses the model or changes it in an unknown way.
    """
    model, layers = write_plan(float_graph(graph, like), plan, inputs, outputs)
    operators = {
        str(index): {"layer": layer, "source": sources.get(layer, layer), "bits": plan.weights[layer].bits}
        for index, layer in layers.items()
    }
    metadata.write(model, {**about, "operators": operators})
    return fb.pack(model)
