"""Random one-operator int8 models, as a .tflite file and as the numbers that the numpy oracle takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.unit.delegates.model_builder import ModelBuilder, Quantization, output_size
from tfq_pipeline.numerics import integer_ops
from tfq_pipeline.numerics.fixed_point import Activation

OPS = ("conv2d", "depthwise_conv2d", "fully_connected")
ACTIVATIONS: tuple[Activation, ...] = ("none", "relu", "relu6", "relu_n1_to_1")


@dataclass(frozen=True, eq=False)
class OneOp:
    """One operator with all its numbers; `x` is an input for it."""

    op: str
    x: np.ndarray
    weights: np.ndarray
    bits: int
    weight_scale: np.ndarray
    bias: np.ndarray
    input: tuple[float, int]
    output: tuple[float, int]
    activation: Activation
    geometry: dict[str, Any]

    def expected(self, rounding: integer_ops.Rounding, *, float32_product: bool = False) -> np.ndarray:
        """The oracle's int8 output; see `integer_ops.output_stage`."""
        stage = integer_ops.output_stage(
            self.input[0],
            self.weight_scale,
            *self.output,
            self.activation,
            rounding=rounding,
            float32_product=float32_product,
        )
        return getattr(integer_ops, self.op)(self.x, self.weights, self.bias, self.input[1], stage, **self.geometry)

    def model(self) -> bytes:
        """The .tflite file."""
        builder = ModelBuilder()
        axis = 3 if self.op == "depthwise_conv2d" else 0
        source = builder.tensor(self.x.shape, "int8", Quantization(*self.input))
        kind = "int4" if self.bits == 4 else "int8"
        weights = builder.tensor(self.weights.shape, kind, Quantization(self.weight_scale, 0, axis), self.weights)
        bias_scale = np.float32(self.input[0]) * self.weight_scale
        bias = builder.tensor(self.bias.shape, "int32", Quantization(bias_scale), self.bias)
        output = builder.tensor(self._output_shape(), "int8", Quantization(*self.output))
        options: dict[str, Any] = {"activation": self.activation}
        if self.geometry:
            options |= {
                "stride": self.geometry["strides"],
                "dilation": self.geometry["dilations"],
                "padding": self.geometry["padding"],
            }
        if self.op == "depthwise_conv2d":
            options["depth_multiplier"] = self.weights.shape[3] // self.x.shape[3]
        getattr(builder, self.op)([source, weights, bias], output, **options)
        builder.inputs, builder.outputs = [source], [output]
        return builder.build()

    def _output_shape(self) -> tuple[int, ...]:
        if self.op == "fully_connected":
            return (len(self.x), len(self.weights))
        strides, dilations, padding = (self.geometry[key] for key in ("strides", "dilations", "padding"))
        height, width = (
            output_size(self.x.shape[1 + i], self.weights.shape[1 + i], strides[i], dilations[i], padding)
            for i in (0, 1)
        )
        return (len(self.x), height, width, self.bias.size)


def random_op(rng: np.random.Generator, op: str, bits: int, per_channel: bool, *, small: bool = False) -> OneOp:
    """An operator whose outputs spread over the int8 range; sizes, zero points and geometry at random."""
    most, image = (6, (1, 6, 5)) if small else (40, (2, 9, 8))
    channels, outputs = int(rng.integers(1, most)), int(rng.integers(1, most))
    kernel = (1, 1) if rng.random() < 0.3 else tuple(int(k) for k in rng.integers(1, 4, 2))
    multiplier = int(rng.integers(1, 3))
    shape = {
        "conv2d": (outputs, *kernel, channels),
        "depthwise_conv2d": (1, *kernel, channels * multiplier),
        "fully_connected": (outputs, channels),
    }[op]
    count = channels * multiplier if op == "depthwise_conv2d" else outputs
    # TFLite dilates only where the stride is 1.
    pair, ones = tuple(int(v) for v in rng.integers(1, 3, 2)), (1, 1)
    strides, dilations = (pair, ones) if rng.random() < 0.5 else (ones, pair)
    convolution = {
        "strides": strides,
        "dilations": dilations,
        "padding": str(rng.choice(["same", "valid"])),
    }
    half = 1 << (bits - 1)
    weights = rng.integers(-half + 1, half, shape).astype(np.int8)
    scale = rng.uniform(0.5, 2.0, count if per_channel else 1).astype(np.float32) * np.float32(0.3 / half)
    depth = kernel[0] * kernel[1] if op == "depthwise_conv2d" else weights[0].size
    input_scale = float(np.float32(rng.uniform(0.005, 0.05)))
    output_scale = float(np.float32(input_scale * 0.3 * np.sqrt(depth) * rng.uniform(0.3, 1.5)))
    return OneOp(
        op=op,
        x=rng.integers(-128, 128, (2, channels) if op == "fully_connected" else (*image, channels)).astype(np.int8),
        weights=weights,
        bits=bits,
        weight_scale=scale,
        bias=rng.integers(-20 * half, 20 * half, count).astype(np.int32),
        input=(input_scale, int(rng.integers(-128, 128))),
        output=(output_scale, int(rng.integers(-128, 128))),
        activation=ACTIVATIONS[rng.integers(4)],
        geometry={} if op == "fully_connected" else convolution,
    )
