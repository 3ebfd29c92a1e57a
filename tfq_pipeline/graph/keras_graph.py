"""The Keras backend of `Graph`: a flat functional tf_keras model, as the importers give it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from tfq_pipeline.data import Data, InputSpec
from tfq_pipeline.errors import UnsupportedLayer
from tfq_pipeline.graph.functional import Call, Functional, LayerSpec, TensorRef, disassemble
from tfq_pipeline.graph.keras_expand import expand
from tfq_pipeline.graph.keras_fold import (
    fold_channel_affine,
    fuse_relu,
    kernel_and_bias,
    kind,
    label,
    relu_name,
    with_kernel,
)
from tfq_pipeline.graph.keras_layers import (
    BATCH_NORM,
    CHANNEL_AFFINE,
    CONSTANT_DIVISOR,
    FUSES_RELU,
    LEFT_WHOLE,
    LINEAR,
    OPERATORS,
    SCALES,
)
from tfq_pipeline.graph.keras_runner import Runner
from tfq_pipeline.graph.keras_side_path import with_side_path
from tfq_pipeline.graph.protocol import LinearOp, SidePath, Tensor, Weights
from tfq_pipeline.tflite.operators import FIXED_SCALES, Scale


class KerasGraph:
    """See `tfq_pipeline.graph.protocol.Graph`; a tensor is named after the layer that writes it."""

    def __init__(self, net: Functional, runner: Runner | None = None) -> None:
        self.net = net
        self._runner = runner if runner is not None and runner.fits(net) else Runner(net)

    @classmethod
    def from_model(cls, model: Any) -> KerasGraph:
        """Takes a canonical model (flat, functional, tf_keras) apart; ReLUs move into the layers they follow."""
        return cls(fuse_relu(expand(disassemble(model))))

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        calls = [self.net.call(ref) for ref in self.net.inputs]
        return tuple(
            InputSpec(c.layer, c.shapes[0][1:], str(self.net.layers[c.layer].config.get("dtype") or "float32"))
            for c in calls
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(self.net.call(ref).layer for ref in self.net.outputs)

    def linear_ops(self) -> tuple[LinearOp, ...]:
        return tuple(self._linear.values())

    @cached_property
    def _linear(self) -> dict[str, LinearOp]:
        found: dict[str, LinearOp] = {}
        for call in self.net.calls:
            spec = self.net.layers[call.layer]
            linear = LINEAR.get(kind(spec))
            if call.is_input or linear is None or spec.name in found:
                continue
            kernel, bias = kernel_and_bias(spec)
            (source,) = self.net.reads(call)
            found[spec.name] = LinearOp(
                spec.name,
                kind(spec),
                linear.op,
                np.ascontiguousarray(linear.to_tflite(kernel)),
                bias,
                linear.channel_axis,
                self.net.call(source).layer,
                spec.name,
                **_window(spec),
                normal=spec.normal,
                calls=self.net.uses(spec.name),
            )
        return found

    def tensors(self) -> tuple[Tensor, ...]:
        """Activations, shared layers once.

        Raises:
            UnsupportedLayer: for a layer that writes several tensors.
        """
        found: dict[str, Tensor] = {}
        for call in self.net.calls:
            if call.layer not in found and self._holds_floats(call) and not self._fused_into_reader(call):
                found[call.layer] = self._tensor(call)
        for call in self.net.calls:
            if self._scale(call) is Scale.JOINED:
                names = tuple(dict.fromkeys(self.net.call(ref).layer for ref in self.net.reads(call)))
                found[call.layer] = replace(found[call.layer], joined=names)
        return tuple(found.values())

    def _holds_floats(self, call: Call) -> bool:
        """Whether what a call writes can have a scale: indices have none."""
        return not (call.is_input and "int" in str(self.net.layers[call.layer].config.get("dtype")))

    def _fused_into_reader(self, call: Call) -> bool:
        """Whether TFLite computes the call and the ReLU behind it in one operator, so that what lies between is
        never stored."""
        if (
            call.is_input
            or label(self.net.layers[call.layer]) not in FUSES_RELU
            or self.net.is_output(TensorRef(call.id))
        ):
            return False
        readers = self.net.consumers().get((call.id, 0), [])
        return len(readers) == 1 and relu_name(self.net.layers[readers[0].layer]) is not None

    def _tensor(self, call: Call) -> Tensor:
        spec = self.net.layers[call.layer]
        if len(call.shapes) != 1:
            raise UnsupportedLayer(
                spec.name, kind(spec), f"writes {len(call.shapes)} tensors", "split it into layers with one output each"
            )
        scale = self._scale(call)
        source = self.net.call(self.net.reads(call)[0]).layer if scale is Scale.PASSED_ON else None
        reads = () if call.is_input else self._stored_reads(call)
        fixed = FIXED_SCALES.get(scale)
        shape, why = call.shapes[0][1:], self._float_only(call)
        return Tensor(spec.name, kind(spec), shape, reads, source, (), fixed, why, *self._operator(call))

    def _operator(self, call: Call) -> tuple[str | None, str | None]:
        """TFLite operator of a call and the activation in it, as `Tensor` has them."""
        spec = self.net.layers[call.layer]
        if kind(spec) in LINEAR:
            return LINEAR[kind(spec)].op, _window(spec)["activation"]
        relu = None if call.is_input else relu_name(spec)
        if relu is None:
            return OPERATORS.get(label(spec)), None
        fused = next((c for c in map(self.net.call, self.net.reads(call)) if self._fused_into_reader(c)), None)
        return (relu.upper(), None) if fused is None else (self._operator(fused)[0], relu.upper())

    def _stored_reads(self, call: Call) -> tuple[str, ...]:
        """Layers whose tensors a call reads; through one that is fused into the call, what that one reads."""
        found: list[str] = []
        for ref in self.net.reads(call):
            source = self.net.call(ref)
            if not self._holds_floats(source):
                continue
            found += self._stored_reads(source) if self._fused_into_reader(source) else [source.layer]
        return tuple(dict.fromkeys(found))

    def _scale(self, call: Call) -> Scale:
        spec = self.net.layers[call.layer]
        if call.is_input or kind(spec) in LINEAR or kind(spec) in CHANNEL_AFFINE:
            return Scale.OWN
        return SCALES.get(label(spec), Scale.OWN)

    def _float_only(self, call: Call) -> str | None:
        """Why a call has to stay float, as `Tensor` has it."""
        spec = self.net.layers[call.layer]
        name = label(spec)
        if call.is_input or kind(spec) in LINEAR or kind(spec) in CHANNEL_AFFINE:
            return None
        if name in CONSTANT_DIVISOR and len(self.net.reads(call)) > 1:
            return "divides by a tensor, which has no integer operator: divide by a constant"
        if name in SCALES:
            return None
        return LEFT_WHOLE.get(name, f"{name} has no integer operator, docs/importers.md lists what has")

    def batch_norms(self) -> tuple[str, ...]:
        return tuple(name for name, spec in self.net.layers.items() if kind(spec) == BATCH_NORM)

    def fold_batch_norm(self) -> KerasGraph:
        """Folds BatchNormalization, Rescaling and Normalization; then ReLUs that now follow a linear layer."""
        return KerasGraph(fuse_relu(fold_channel_affine(self.net)))

    def with_weights(self, updates: Mapping[str, Weights]) -> KerasGraph:
        net = self.net
        for name, new in updates.items():
            spec = net.layers[name]
            kernel = LINEAR[kind(spec)].from_tflite(new.kernel, spec.weights[0].shape)
            net = net.with_layer(replace(with_kernel(spec, kernel, new.bias), normal=new.normal or spec.normal))
        return KerasGraph(net, self._runner)

    def with_side_paths(self, paths: Mapping[str, SidePath]) -> KerasGraph:
        net = self.net
        for name, path in paths.items():
            net = with_side_path(net, name, path)
        return KerasGraph(net)

    def before_fixed_outputs(self) -> KerasGraph:
        """The graph with its outputs moved to what enters softmax and the like: where training and comparison
        happen."""
        fixed = {t.name for t in self.tensors() if t.fixed is not None}
        refs = []
        for ref in self.net.outputs:
            call = self.net.call(ref)
            refs.append(self.net.reads(call)[0] if call.layer in fixed else ref)
        return KerasGraph(self.net.with_outputs(refs))

    @cached_property
    def model(self) -> Any:
        """The graph as a float tf_keras model."""
        return self.net.build()

    def capture(self, names: Sequence[str], data: Data) -> Iterator[dict[str, np.ndarray]]:
        """Streams tensors; a shared layer's calls come one after the other along the batch axis."""
        wanted = set(names)
        parts = [(call.layer, TensorRef(call.id)) for call in self.net.calls if call.layer in wanted]
        for batch in data:
            values = self._runner.run(self.net, [ref for _, ref in parts], batch.inputs)
            found: dict[str, list[np.ndarray]] = {}
            for (name, _), value in zip(parts, values, strict=True):
                # Shares the tensor's memory; `numpy()` copies it.
                found.setdefault(name, []).append(np.asarray(value))
            yield {name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays) for name, arrays in found.items()}

    def run(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        return tuple(value.numpy() for value in self._runner.run(self.net, self.net.outputs, inputs))

    def type_of(self, layer: str) -> str:
        return kind(self.net.layers[layer])

    def layer(self, name: str) -> LayerSpec:
        return self.net.layers[name]


def _window(spec: LayerSpec) -> dict[str, Any]:
    """Activation, strides, dilations and padding of a linear layer as `LinearOp` has them."""
    activation = spec.config.get("activation")

    def pair(key: str) -> tuple[int, int]:
        values = np.ravel(spec.config.get(key, 1))
        return (1, int(values[0])) if kind(spec) == "Conv1D" else (int(values[0]), int(values[-1]))

    return {
        "activation": None if activation in (None, "linear") else str(activation).upper(),
        "strides": pair("strides"),
        "dilations": pair("dilation_rate"),
        "padding": str(spec.config.get("padding", "valid")).upper(),
    }
