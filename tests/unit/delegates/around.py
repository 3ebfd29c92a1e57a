"""Random networks of INT4 layers with the operators around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.unit.delegates.model_builder import ACTIVATIONS, ModelBuilder, Quantization, random_layer


@dataclass(frozen=True)
class Value:
    """An int8 tensor of the network."""

    tensor: int
    shape: tuple[int, ...]
    scale: float
    zero_point: int


@dataclass
class AroundNet:
    """Builds one network, block by block; every block takes an NHWC value and gives one.

    Args:
        beside_xnnpack: keeps to what XNNPACK leaves to the built-in kernels, where it would multiply in float32: dense
            layers of an odd number of inputs, second factors with a zero point.
    """

    rng: np.random.Generator
    beside_xnnpack: bool = False
    builder: ModelBuilder = field(default_factory=ModelBuilder)

    def value(self, shape: tuple[int, ...], scale: float, zero_point: int) -> Value:
        scale = float(np.float32(scale))
        quantization = Quantization(scale, zero_point)
        return Value(self.builder.tensor(shape, "int8", quantization), tuple(shape), scale, zero_point)

    def zero_point(self) -> int:
        values = self.rng.permutation(np.arange(-128, 128))[:2]
        return int(values[1] if self.beside_xnnpack and values[0] == 0 else values[0])

    def input(self) -> Value:
        shape = tuple(int(self.rng.integers(1, n)) for n in (3, 14, 14, 40))
        value = self.value(shape, 0.05, self.zero_point())
        self.builder.inputs.append(value.tensor)
        return value

    def layer(self, source: Value, op: str = "conv", **options: Any) -> Value:
        zero_point = self.zero_point()
        tensor, shape, scale = random_layer(
            self.builder, self.rng, op, source.tensor, source.shape, source.scale, zero_point=zero_point, **options
        )
        return Value(tensor, shape, scale, zero_point)

    def op(self, name: str, inputs: list[int], output: Value, options: Any = None) -> Value:
        self.builder.operator(name, inputs, [output.tensor], options)
        return output

    def activation(self) -> int:
        return int(self.rng.choice(list(ACTIVATIONS.values())[:4]))

    # Blocks.

    def convolution(self, x: Value) -> Value:
        kernel = (int(self.rng.integers(1, 4)), int(self.rng.integers(1, 4)))
        return self.layer(x, out=int(self.rng.integers(1, 40)), kernel=kernel, activation="relu")

    def residual(self, x: Value) -> Value:
        a = self.layer(x, out=int(self.rng.integers(1, 40)))
        b = self.layer(a, out=a.shape[3], kernel=(1, 1), gain=float(self.rng.choice([0.3, 1.0])))
        options = schema.AddOptionsT()
        options.fusedActivationFunction = self.activation()
        scale = max(a.scale, b.scale) * self.rng.uniform(0.5, 2)
        return self.op("ADD", [a.tensor, b.tensor], self.value(a.shape, scale, self.zero_point()), options)

    def squeeze_excite(self, x: Value) -> Value:
        x = self.layer(x, "depthwise")
        mean = self.mean(x, keep=True)
        hidden = self.layer(mean, out=int(self.rng.integers(1, 20)), kernel=(1, 1))
        hidden = self.unary("RELU" if self.rng.random() < 0.5 else "RELU6", hidden)
        gate = self.layer(hidden, out=x.shape[3], kernel=(1, 1))
        if self.rng.random() < 0.5:
            gate = self.unary("LOGISTIC", gate)
        else:
            gate = self.times_constant(self.unary("RELU6", gate))
        output = self.value(x.shape, x.scale * gate.scale * 127 * self.rng.uniform(0.3, 1.5), self.zero_point())
        options = schema.MulOptionsT()
        options.fusedActivationFunction = self.activation()
        inputs = [x.tensor, gate.tensor] if self.rng.random() < 0.5 else [gate.tensor, x.tensor]
        return self.op("MUL", inputs, output, options)

    def square(self, x: Value) -> Value:
        a = self.layer(x, out=int(self.rng.integers(1, 40)))
        b = self.layer(x, out=a.shape[3])
        output = self.value(a.shape, a.scale * b.scale * 100, self.zero_point())
        return self.op("MUL", [a.tensor, b.tensor], output, schema.MulOptionsT())

    def times_constant(self, x: Value) -> Value:
        quantization = Quantization(float(np.float32(0.01)), 3)
        factor = np.array(self.rng.integers(-128, 128), np.int8)
        constant = self.builder.tensor((), "int8", quantization, factor)
        output = self.value(x.shape, x.scale * 0.01 * 100, self.zero_point())
        inputs = [x.tensor, constant] if self.rng.random() < 0.5 else [constant, x.tensor]
        return self.op("MUL", inputs, output, schema.MulOptionsT())

    def mean(self, x: Value, keep: bool, over: Sequence[int] = (1, 2)) -> Value:
        options = schema.ReducerOptionsT()
        options.keepDims = keep
        named = np.array([axis if keep else axis - 4 for axis in self.rng.permutation(over)], np.int32)
        # A single axis may be a scalar.
        shape = () if named.size == 1 and self.rng.random() < 0.5 else named.shape
        axes = self.builder.tensor(shape, "int32", None, named.reshape(shape))
        same = self.rng.random() < 0.3
        scale = x.scale * (1.0 if same else self.rng.uniform(0.1, 1.2))
        zero_point = x.zero_point if same else self.zero_point()
        sizes = [1 if axis in over else size for axis, size in enumerate(x.shape) if keep or axis not in over]
        return self.op("MEAN", [x.tensor, axes], self.value(tuple(sizes), scale, zero_point), options)

    def unary(self, name: str, x: Value) -> Value:
        if name == "LOGISTIC":
            output = self.value(x.shape, 1 / 256, -128)
        else:
            output = self.value(
                x.shape, x.scale * self.rng.choice([0.5, 1.0, self.rng.uniform(0.3, 2)]), self.zero_point()
            )
        options = {"HARD_SWISH": schema.HardSwishOptionsT, "QUANTIZE": schema.QuantizeOptionsT}.get(name)
        return self.op(name, [x.tensor], output, options() if options else None)

    def activated(self, x: Value) -> Value:
        names = ["RELU", "RELU6", "RELU_N1_TO_1", "HARD_SWISH", "QUANTIZE", "LOGISTIC"]
        return self.unary(str(self.rng.choice(names)), self.layer(x, out=int(self.rng.integers(1, 40))))

    def pooled(self, x: Value) -> Value:
        x = self.layer(x, out=int(self.rng.integers(1, 70)))
        options = schema.Pool2DOptionsT()
        options.filterHeight, options.filterWidth = (int(self.rng.integers(2, 5)) for _ in range(2))
        options.strideH, options.strideW = (int(self.rng.integers(1, 3)) for _ in range(2))
        options.padding = schema.Padding.SAME
        options.fusedActivationFunction = self.activation()
        shape = (x.shape[0], -(-x.shape[1] // options.strideH), -(-x.shape[2] // options.strideW), x.shape[3])
        name = str(self.rng.choice(["AVERAGE_POOL_2D", "MAX_POOL_2D"]))
        return self.op(name, [x.tensor], self.value(shape, x.scale, x.zero_point), options)

    def padded(self, x: Value) -> Value:
        x = self.layer(x, out=int(self.rng.integers(1, 20)))
        amounts = np.array([[0, 0], self.rng.integers(0, 4, 2), self.rng.integers(0, 4, 2), [0, 0]], np.int32)
        constant = self.builder.tensor((4, 2), "int32", None, amounts)
        shape = tuple(int(s) for s in np.array(x.shape) + amounts.sum(1))
        padded = self.op("PAD", [x.tensor, constant], self.value(shape, x.scale, x.zero_point), schema.PadOptionsT())
        op = str(self.rng.choice(["conv", "depthwise", "none"]))
        if op == "none" or shape[1] < 3 or shape[2] < 3:
            return padded
        stride = int(self.rng.integers(1, 3))
        kernel = (int(self.rng.integers(1, 4)), int(self.rng.integers(1, 4)))
        return self.layer(padded, op, padding="valid", stride=(stride, stride), kernel=kernel)

    def concatenated(self, x: Value) -> Value:
        pieces = [self.layer(x, out=int(self.rng.integers(1, 20))) for _ in range(int(self.rng.integers(2, 4)))]
        scale, zero_point = pieces[0].scale, pieces[0].zero_point
        same = [pieces[0]]
        for piece in pieces[1:]:
            output = self.value(piece.shape, scale, zero_point)
            same.append(self.op("QUANTIZE", [piece.tensor], output, schema.QuantizeOptionsT()))
        options = schema.ConcatenationOptionsT()
        options.axis = int(self.rng.choice([3, -1]))
        shape = (*x.shape[:3], sum(piece.shape[3] for piece in pieces))
        output = self.value(shape, scale, zero_point)
        return self.op("CONCATENATION", [piece.tensor for piece in same], output, options)

    def attention(self, x: Value) -> Value:
        query, key, value = (self.layer(x, out=int(n)) for n in [self.rng.integers(1, 40)] * 2 + [x.shape[3]])
        scores = (*x.shape[:3], x.shape[2])
        first = self.product(query, key, scores, depth=key.shape[3], adjoint=True)
        if self.rng.random() < 0.7:
            first = self.softmax(first)
        return self.product(first, value, (*x.shape[:3], value.shape[3]), depth=x.shape[2], adjoint=False)

    def softmax(self, x: Value) -> Value:
        options = schema.SoftmaxOptionsT()
        options.beta = float(self.rng.choice([1.0, 0.3]))
        return self.op("SOFTMAX", [x.tensor], self.value(x.shape, 1 / 256, -128), options)

    def product(self, a: Value, b: Value, shape: tuple[int, ...], depth: int, adjoint: bool) -> Value:
        options = schema.BatchMatMulOptionsT()
        options.adjY = adjoint
        scale = a.scale * b.scale * np.sqrt(depth) * self.rng.choice([5, 40, 200])
        output = self.value(shape, scale, self.zero_point())
        return self.op("BATCH_MATMUL", [a.tensor, b.tensor], output, options)

    def deviation(self, x: Value) -> Value:
        x = self.layer(x, out=int(self.rng.integers(1, 40)))
        mean = self.mean(x, keep=True)
        pair = [x, mean] if self.rng.random() < 0.5 else [mean, x]
        output = self.value(x.shape, x.scale**2 * self.rng.choice([40, 200]), int(self.rng.choice([-128, -7])))
        return self.op("SQUARED_DIFFERENCE", [v.tensor for v in pair], output, schema.SquaredDifferenceOptionsT())

    def neighbours(self) -> tuple[int, ...]:
        """Axes that a mean goes over."""
        first = int(self.rng.integers(1, 4))
        return tuple(range(first, int(self.rng.integers(first, 4)) + 1))

    def combined(self, name: str, a: Value, b: Value, zero_point: int | None = None) -> Value:
        """ADD, SUB or MUL of any shapes that go together."""
        options = getattr(schema, f"{name.capitalize()}OptionsT")()
        options.fusedActivationFunction = self.activation() if self.rng.random() < 0.3 else ACTIVATIONS["none"]
        scale = a.scale * b.scale * 64 if name == "MUL" else max(a.scale, b.scale) * self.rng.uniform(0.5, 2)
        shape = tuple(max(sizes) for sizes in zip(a.shape, b.shape, strict=True))
        output = self.value(shape, scale, self.zero_point() if zero_point is None else zero_point)
        return self.op(name, [a.tensor, b.tensor], output, options)

    def repeated(self, x: Value) -> Value:
        a = self.layer(x, out=int(self.rng.integers(1, 40)))
        b = self.mean(a, True, self.neighbours())
        if self.rng.random() < 0.3:
            a = self.mean(a, True, self.neighbours())
        pair = [a, b] if self.rng.random() < 0.5 else [b, a]
        return self.combined(str(self.rng.choice(["ADD", "SUB", "MUL"])), *pair)

    def normalized(self, x: Value) -> Value:
        """As Keras' layer normalization arrives."""
        x = self.layer(x, out=int(self.rng.integers(1, 200)), kernel=(1, 1))
        over = self.neighbours()
        options = schema.SubOptionsT()
        mean = self.mean(x, True, over)
        centred = self.op("SUB", [x.tensor, mean.tensor], self.value(x.shape, x.scale, self.zero_point()), options)
        square = self.value(x.shape, x.scale**2 * 100, -128)
        self.op("MUL", [centred.tensor, centred.tensor], square, schema.MulOptionsT())
        reduce = schema.ReducerOptionsT()
        reduce.keepDims = True
        axes = self.builder.tensor((len(over),), "int32", None, np.array(over, np.int32))
        variance = self.op("MEAN", [square.tensor, axes], self.value(mean.shape, square.scale * 0.5, -128), reduce)
        quantization = Quantization(float(np.float32(variance.scale * self.rng.choice([1e-5, 5e-4, 0.1]))), -128)
        epsilon = self.builder.tensor((), "int8", quantization, np.array(127, np.int8))
        shifted = self.value(mean.shape, variance.scale * 1.001, -128)
        self.op("ADD", [variance.tensor, epsilon], shifted, schema.AddOptionsT())
        inverse = self.value(mean.shape, 1 / np.sqrt(shifted.scale * self.rng.uniform(1, 30)) / 255, -128)
        self.op("RSQRT", [shifted.tensor], inverse)
        output = self.value(x.shape, 3 / 128, self.zero_point())
        return self.op("MUL", [centred.tensor, inverse.tensor], output, schema.MulOptionsT())

    def transposed(self, x: Value) -> Value:
        x = self.layer(x, out=int(self.rng.integers(1, 40)))
        order = self.rng.permutation(4).astype(np.int32)
        constant = self.builder.tensor((4,), "int32", None, order)
        output = self.value(tuple(x.shape[axis] for axis in order), x.scale, x.zero_point)
        return self.op("TRANSPOSE", [x.tensor, constant], output, schema.TransposeOptionsT())

    def head(self, x: Value) -> Value:
        if self.beside_xnnpack and x.shape[3] % 2 == 0:
            x = self.layer(x, out=x.shape[3] + 1, kernel=(1, 1))
        mean = self.mean(x, keep=False)
        options = schema.ReshapeOptionsT()
        options.newShape = [mean.shape[0], 1, mean.shape[1]]
        shape = self.builder.tensor((3,), "int32", None, np.array([mean.shape[0], 1, -1], np.int32))
        reshaped = self.value((mean.shape[0], 1, mean.shape[1]), mean.scale, mean.zero_point)
        self.op("RESHAPE", [mean.tensor, shape], reshaped, options)
        return self.layer(reshaped, "dense", out=int(self.rng.integers(1, 30)), keep_num_dims=True)


BLOCKS = (
    AroundNet.convolution,
    AroundNet.residual,
    AroundNet.squeeze_excite,
    AroundNet.square,
    AroundNet.activated,
    AroundNet.pooled,
    AroundNet.padded,
    AroundNet.concatenated,
    AroundNet.attention,
    AroundNet.deviation,
    AroundNet.repeated,
    AroundNet.normalized,
    AroundNet.transposed,
)


def add_net(builder: ModelBuilder, rng: np.random.Generator, beside_xnnpack: bool = False) -> tuple[int, ...]:
    """Adds a network of one to four blocks, half of the time with a dense head; returns the shape of its input."""
    net = AroundNet(rng, beside_xnnpack, builder)
    x = first = net.input()
    for _ in range(int(rng.integers(1, 5))):
        x = BLOCKS[int(rng.integers(len(BLOCKS)))](net, x)
    if rng.random() < 0.5:
        x = net.head(x)
    builder.outputs.append(x.tensor)
    return first.shape


def random_net(seed: int, beside_xnnpack: bool = False) -> tuple[bytes, tuple[int, ...]]:
    """A file with one network, and the shape of its input."""
    builder = ModelBuilder()
    shape = add_net(builder, np.random.default_rng(seed), beside_xnnpack)
    return builder.build(), shape
