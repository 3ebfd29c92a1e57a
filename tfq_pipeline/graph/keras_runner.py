"""Runs a Keras model taken apart: one trace serves all its tensors, and all weights that its layers are given.

Tracing costs more than running where a pass asks for one tensor after the other, with the weights of the layers before
it changed each time. Here the model is traced once with every tensor as an output; what is asked for is cut out of
that graph, and weights are loaded into it when they are others than last time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.functional import Functional, TensorRef


class Runner:
    """Computes tensors of every `Functional` that has the calls and configs of one, whatever its weights."""

    def __init__(self, net: Functional) -> None:
        self._net = net
        self._parts: dict[tuple[TensorRef, ...], tuple[Any, frozenset[str]]] = {}
        self._loaded: dict[str, tuple[np.ndarray, ...]] = {}

    def fits(self, net: Functional) -> bool:
        """Whether a model differs from the traced one in weights alone."""
        return net.calls == self._net.calls and all(
            (spec.cls, spec.config) == (net.layers[name].cls, net.layers[name].config)
            for name, spec in self._net.layers.items()
        )

    def run(self, net: Functional, refs: Sequence[TensorRef], inputs: Sequence[np.ndarray]) -> list[Any]:
        """TensorFlow tensors of one batch.

        Args:
            net: one that `fits`.
            refs: of the tensors.
            inputs: one array per model input, [batch, ...].

        Raises:
            BadInput: for inputs of another shape than the model's.
        """
        part, layers = self._part(tuple(refs))
        self._load(net, layers)
        found: list[Any] = part(*self._conformed(inputs))
        return found

    def _load(self, net: Functional, layers: frozenset[str]) -> None:
        variables, _, _ = self._trace
        for name in layers:
            weights = net.layers[name].weights
            if self._loaded.get(name) is not weights:
                for variable, value in zip(variables[name], weights, strict=True):
                    variable.assign(value.astype(variable.dtype.as_numpy_dtype, copy=False))
                self._loaded[name] = weights

    def _conformed(self, inputs: Sequence[np.ndarray]) -> list[Any]:
        import tensorflow as tf

        _, _, specs = self._trace
        made = []
        for x, spec in zip(inputs, specs, strict=True):
            if not spec.shape.is_compatible_with(x.shape):
                raise BadInput(f"input '{spec.name}': found shape {x.shape}, the model reads {tuple(spec.shape)}")
            made.append(tf.cast(tf.convert_to_tensor(x), spec.dtype))
        return made

    def _part(self, refs: tuple[TensorRef, ...]) -> tuple[Any, frozenset[str]]:
        """The function from inputs to some tensors, and the layers in it that have weights."""
        if refs not in self._parts:
            variables, whole, specs = self._trace
            outputs = [whole.structured_outputs[ref.call, ref.output] for ref in refs]
            part = whole.prune(whole.inputs, outputs, input_signature=(tuple(specs), {}))
            self._parts[refs] = part, frozenset(variables).intersection(self._net.with_outputs(refs).layers)
        return self._parts[refs]

    @cached_property
    def _trace(self) -> tuple[dict[str, list[Any]], Any, list[Any]]:
        """Variables by layer, the function of all tensors, and what it reads."""
        import tensorflow as tf

        net = self._net
        refs = [TensorRef(call.id, output) for call in net.calls for output in range(len(call.shapes))]
        model = net.with_outputs(refs).build()
        ports = [net.call(ref) for ref in net.inputs]
        specs = [
            tf.TensorSpec(c.shapes[0], net.layers[c.layer].config.get("dtype") or "float32", c.layer) for c in ports
        ]

        @tf.autograph.experimental.do_not_convert
        def every(*inputs: Any) -> dict[tuple[int, int], Any]:
            values = tf.nest.flatten(model(inputs[0] if len(inputs) == 1 else list(inputs), training=False))
            return {(ref.call, ref.output): value for ref, value in zip(refs, values, strict=True)}

        variables = {layer.name: layer.weights for layer in model.layers if layer.weights}
        return variables, tf.compat.v1.wrap_function(every, specs), specs
