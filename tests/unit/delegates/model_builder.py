"""Builds small quantized .tflite models, tensor by tensor, for the delegate's tests and for golden files.

The file's own vocabulary is kept: conv filters are OHWI, depthwise 1HWC, dense [out, in]; INT4 constants are packed
two a byte, low nibble first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = {
    "float16": schema.TensorType.FLOAT16,
    "float32": schema.TensorType.FLOAT32,
    "int4": schema.TensorType.INT4,
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
}
ACTIVATIONS = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu_n1_to_1": schema.ActivationFunctionType.RELU_N1_TO_1,
    "relu6": schema.ActivationFunctionType.RELU6,
    "tanh": schema.ActivationFunctionType.TANH,
}
# Operator versions that take int8, and INT4 weights where there are any.
VERSIONS = {
    "CONV_2D": 7,
    "DEPTHWISE_CONV_2D": 7,
    "FULLY_CONNECTED": 7,
    "HARD_SWISH": 1,
    "RESHAPE": 1,
    "RELU_N1_TO_1": 1,
}
PADDINGS = {"same": schema.Padding.SAME, "valid": schema.Padding.VALID}


def pack_int4(values: np.ndarray) -> np.ndarray:
    """uint8 bytes of int4 `values` in order, low nibble first, the last one padded with 0."""
    flat = np.asarray(values, np.int8).ravel()
    nibbles = np.concatenate([flat, np.zeros(flat.size % 2, np.int8)]).astype(np.uint8) & 0xF
    return nibbles[0::2] | nibbles[1::2] << 4


@dataclass(frozen=True)
class Quantization:
    """Affine quantization: one scale, or one a slice along `axis`."""

    scale: float | Sequence[float] | np.ndarray
    zero_point: int | Sequence[int] = 0
    axis: int = 0


@dataclass(frozen=True)
class BlockQuantization:
    """A scale for each `block` inputs of each output: float16 `scale` of shape [outputs, inputs / block]."""

    scale: np.ndarray
    block: int


@dataclass
class ModelBuilder:
    """Collects tensors and operators of one subgraph; `build` gives the file's bytes."""

    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    _tensors: list[Any] = field(default_factory=list)
    _buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    _operators: list[Any] = field(default_factory=list)
    _codes: list[str] = field(default_factory=list)

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str,
        quantization: Quantization | BlockQuantization | None = None,
        data: np.ndarray | None = None,
        name: str = "",
    ) -> int:
        """Adds a tensor, constant when it has `data`, and returns its index."""
        tensor = schema.TensorT()
        tensor.name = name or f"tensor_{len(self._tensors)}"
        tensor.shape = list(shape)
        tensor.type = TYPES[dtype]
        tensor.buffer = 0
        if isinstance(quantization, BlockQuantization):
            tensor.quantization = self._blockwise(quantization)
        elif quantization is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.atleast_1d(np.asarray(quantization.scale, np.float32))
            zero_point = np.broadcast_to(np.asarray(quantization.zero_point, np.int64), tensor.quantization.scale.shape)
            tensor.quantization.zeroPoint = np.array(zero_point)
            tensor.quantization.quantizedDimension = quantization.axis
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = pack_int4(data) if dtype == "int4" else np.ascontiguousarray(data).view(np.uint8).ravel()
            tensor.buffer = len(self._buffers)
            self._buffers.append(buffer)
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _blockwise(self, quantization: BlockQuantization) -> Any:
        details = schema.BlockwiseQuantizationT()
        details.scales = self.tensor(quantization.scale.shape, "float16", None, quantization.scale.astype(np.float16))
        details.zeroPoints, details.blockSize = -1, quantization.block
        parameters = schema.QuantizationParametersT()
        parameters.detailsType, parameters.details = schema.QuantizationDetails.BlockwiseQuantization, details
        return parameters

    def operator(self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None) -> None:
        """Adds an operator by its builtin name, with the schema's options object (such as `Conv2DOptionsT`)."""
        if name not in self._codes:
            self._codes.append(name)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.index(name)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            operator.builtinOptions = options
        self._operators.append(operator)

    def conv2d(
        self,
        inputs: Sequence[int],
        output: int,
        *,
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        padding: str = "same",
        activation: str = "none",
    ) -> None:
        options = schema.Conv2DOptionsT()
        options.strideH, options.strideW = stride
        options.dilationHFactor, options.dilationWFactor = dilation
        options.padding, options.fusedActivationFunction = PADDINGS[padding], ACTIVATIONS[activation]
        self.operator("CONV_2D", inputs, [output], options)

    def depthwise_conv2d(
        self,
        inputs: Sequence[int],
        output: int,
        *,
        depth_multiplier: int = 1,
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        padding: str = "same",
        activation: str = "none",
    ) -> None:
        options = schema.DepthwiseConv2DOptionsT()
        options.strideH, options.strideW = stride
        options.dilationHFactor, options.dilationWFactor = dilation
        options.padding, options.fusedActivationFunction = PADDINGS[padding], ACTIVATIONS[activation]
        options.depthMultiplier = depth_multiplier
        self.operator("DEPTHWISE_CONV_2D", inputs, [output], options)

    def fully_connected(
        self, inputs: Sequence[int], output: int, *, activation: str = "none", keep_num_dims: bool = False
    ) -> None:
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction, options.keepNumDims = ACTIVATIONS[activation], keep_num_dims
        self.operator("FULLY_CONNECTED", inputs, [output], options)

    def build(self) -> bytes:
        """The finished file."""
        subgraph = schema.SubGraphT()
        subgraph.tensors, subgraph.operators = self._tensors, self._operators
        subgraph.inputs, subgraph.outputs = self.inputs, self.outputs
        subgraph.name = "main"
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers = 3, [subgraph], self._buffers
        model.operatorCodes = []
        for name in self._codes:
            operator_code = schema.OperatorCodeT()
            operator_code.builtinCode = getattr(schema.BuiltinOperator, name)
            operator_code.deprecatedBuiltinCode = min(operator_code.builtinCode, 127)
            operator_code.version = VERSIONS.get(name, 2)
            model.operatorCodes.append(operator_code)
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def output_size(size: int, kernel: int, stride: int, dilation: int, padding: str) -> int:
    """Output extent of a window along one axis."""
    effective = (kernel - 1) * dilation + 1
    return -(-size // stride) if padding == "same" else -(-(size - effective + 1) // stride)


def random_layer(
    builder: ModelBuilder,
    rng: np.random.Generator,
    op: str,
    source: int,
    source_shape: Sequence[int],
    source_scale: float,
    *,
    out: int = 8,
    kernel: tuple[int, int] = (3, 3),
    groups: int = 1,
    depth_multiplier: int = 1,
    bias: bool = True,
    per_channel: bool = True,
    zero_point: int = 0,
    weight_dtype: str = "int4",
    activations: str = "int8",
    bias_dtype: str = "int32",
    gain: float = 1.0,
    **options: Any,
) -> tuple[int, tuple[int, ...], float]:
    """Appends one random quantized layer; the output scale is such that outputs spread over the range of `activations`.

    Args:
        op: "conv", "depthwise" or "dense".
        gain: larger saturates more outputs.

    Returns:
        Index, shape and scale of its output.
    """
    channels = source_shape[-1]
    if op == "conv":
        filter_shape: tuple[int, ...] = (out, *kernel, channels // groups)
        axis, depth = 0, int(np.prod(filter_shape[1:]))
    elif op == "depthwise":
        out = channels * depth_multiplier
        filter_shape, axis, depth = (1, *kernel, out), 3, kernel[0] * kernel[1]
    else:
        filter_shape, axis, depth = (out, channels), 0, channels
    low, high = (-8, 7) if weight_dtype == "int4" else (-127, 127)
    weights = rng.integers(low, high + 1, filter_shape).astype(np.int8)
    scales = rng.uniform(0.01, 0.05, out if per_channel else 1).astype(np.float32)
    weight = builder.tensor(filter_shape, weight_dtype, Quantization(scales, 0, axis), weights)
    inputs = [source, weight]
    if bias:
        bias_scale = np.float32(source_scale) * scales
        most = 2000 if activations == "int8" else 500_000
        values = rng.integers(-most, most, out).astype(bias_dtype)
        inputs.append(builder.tensor((out,), bias_dtype, Quantization(bias_scale, 0, 0), values))
    elif op == "dense":
        inputs.append(-1)
    deviation, target = (74, 64) if activations == "int8" else (18_918, 16_384)
    spread = float(np.sqrt(depth) * (high - low) / 3.5 * deviation * source_scale * scales.mean())
    scale = float(np.float32(spread / target / gain))
    quantization = Quantization(scale, zero_point)
    if op == "dense":
        keep = options.get("keep_num_dims", False)
        batch = source_shape[:-1] if keep else (int(np.prod(source_shape[:-1])),)
        shape = (*batch, out)
        output = builder.tensor(shape, activations, quantization)
        builder.fully_connected(inputs, output, **options)
        return output, shape, scale
    stride, dilation = options.get("stride", (1, 1)), options.get("dilation", (1, 1))
    padding = options.get("padding", "same")
    extent = [output_size(source_shape[1 + i], kernel[i], stride[i], dilation[i], padding) for i in range(2)]
    shape = (source_shape[0], *extent, out)
    output = builder.tensor(shape, activations, quantization)
    if op == "conv":
        builder.conv2d(inputs, output, **options)
    else:
        builder.depthwise_conv2d(inputs, output, depth_multiplier=depth_multiplier, **options)
    return output, shape, scale


def random_network(
    builder: ModelBuilder,
    rng: np.random.Generator,
    depth: int,
    weights: Sequence[str] = ("int4", "int8"),
    activations: str = "int8",
) -> tuple[int, ...]:
    """Appends an input of random shape and, behind it, `depth` random layers whose result is an output.

    Shapes, kernels, strides, dilations, paddings, groups, activations, zero points and saturation all vary, and so do
    the types of the weights among those given. Beside int16 activations zero points are 0, depthwise weights int8 and
    biases of 64 bits, as the runtime's kernels want them; its dense layers take 32 bits or none as well.

    Returns:
        The input's shape.
    """
    first = tuple(int(rng.integers(1, n)) for n in (3, 14, 14, 40))
    wide = activations == "int16"
    shape, scale = first, 0.05 / (256 if wide else 1)
    tensor = builder.tensor(shape, activations, Quantization(scale, 0 if wide else int(rng.integers(-128, 128))))
    builder.inputs.append(tensor)
    for _ in range(depth):
        op = str(rng.choice(["conv", "depthwise", "dense"]))
        options: dict[str, Any] = {"activation": str(rng.choice(["none", "relu", "relu6", "relu_n1_to_1"]))}
        if op == "dense":
            options["keep_num_dims"] = True
        else:
            options["kernel"] = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
            options["stride"] = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
            options["padding"] = str(rng.choice(["same", "valid"]))
            if options["stride"] == (1, 1):
                options["dilation"] = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
            reach = [(k - 1) * d for k, d in zip(options["kernel"], options.get("dilation", (1, 1)), strict=True)]
            if shape[1] <= reach[0] or shape[2] <= reach[1]:
                options["padding"] = "same"
        if op == "depthwise":
            options["depth_multiplier"] = int(rng.integers(1, 3))
        else:
            options["out"] = int(rng.integers(1, 40))
        if op == "conv" and shape[3] % 2 == 0 and rng.random() < 0.2:
            options["groups"], options["out"] = 2, 2 * int(rng.integers(1, 20))
        weight_dtype = str(rng.choice(list(weights)))
        if wide:
            biases = [True, True, False] if op == "dense" else [True]
            options["bias"] = bool(rng.choice(biases))
            options["bias_dtype"] = str(rng.choice(["int64", "int32"])) if op == "dense" else "int64"
            weight_dtype = "int8" if op == "depthwise" else weight_dtype
        tensor, shape, scale = random_layer(
            builder,
            rng,
            op,
            tensor,
            shape,
            scale,
            per_channel=bool(rng.random() < 0.7),
            zero_point=0 if wide else int(rng.integers(-128, 128)),
            gain=float(rng.choice([0.1, 1.0, 5.0])),
            weight_dtype=weight_dtype,
            activations=activations,
            **options,
        )
    builder.outputs.append(tensor)
    return first
