"""Nodes with floating-point inputs and outputs: the delegate against exact sums in float64, and against XNNPACK."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tests.unit.delegates.model_builder import BlockQuantization, ModelBuilder, Quantization, output_size
from tfq_pipeline import delegate, native
from tfq_pipeline.tflite.inspect import inspect

TIERS = ["reference", "avx2", "auto"] if native.host_platform().endswith("x86_64") else ["reference", "auto"]
RANGES = {"none": (-np.inf, np.inf), "relu": (0, np.inf), "relu6": (0, 6), "relu_n1_to_1": (-1, 1)}


@dataclass(frozen=True)
class Dense:
    """A dense layer: the file, and the weights in float64."""

    model: bytes
    values: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    activation: str

    def exact(self) -> np.ndarray:
        """The layer's outputs in float64, its input not rounded."""
        return np.clip(self.values.astype(np.float64) @ self.weights.T + self.bias, *RANGES[self.activation])

    def rounding_bound(self) -> np.ndarray:
        """How far the input's rounding to 255 steps over its range may move the outputs: half a step for each value,
        and half a step for the zero point."""
        low, high = np.minimum(self.values.min(-1), 0), np.maximum(self.values.max(-1), 0)
        step = (high.astype(np.float64) - low) / 255
        return step[..., None] * np.abs(self.weights).sum(1)


def random_dense(seed: int, block: int = 0, weight_only: bool = False, bits: int = 4) -> Dense:
    """Inputs are quantized at run time unless `weight_only`: then a DEQUANTIZE stands between weights and layer."""
    rng = np.random.default_rng(seed)
    inputs = int(rng.integers(1, 5)) * block if block else int(rng.integers(1, 300))
    outputs, rows = int(rng.integers(1, 80)), int(rng.integers(1, 12))
    quantized = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (outputs, inputs)).astype(np.int8)
    quantization: Quantization | BlockQuantization
    if block:
        scales = rng.uniform(0.001, 0.1, (outputs, inputs // block)).astype(np.float16)
        quantization = BlockQuantization(scales, block)
        weights = quantized * np.repeat(scales.astype(np.float64), block, axis=1)
    else:
        scale = rng.uniform(0.001, 0.1, outputs if rng.random() < 0.7 else 1).astype(np.float32)
        quantization = Quantization(scale)
        weights = quantized * scale.astype(np.float64)[:, None]
    bias = rng.normal(0, 1, outputs).astype(np.float32)
    activation = str(rng.choice(list(RANGES)))

    builder = ModelBuilder()
    source = builder.tensor((rows, inputs), "float32")
    weight = builder.tensor((outputs, inputs), f"int{bits}", quantization, quantized)
    builder.inputs, builder.outputs = [source], [builder.tensor((rows, outputs), "float32")]
    if weight_only:
        weight = dequantized(builder, weight, (outputs, inputs))
    builder.fully_connected(
        [source, weight, builder.tensor((outputs,), "float32", None, bias)], builder.outputs[0], activation=activation
    )
    values = rng.normal(rng.uniform(-2, 2), rng.uniform(0.1, 3), (rows, inputs)).astype(np.float32)
    return Dense(builder.build(), values, weights, bias.astype(np.float64), activation)


def dequantized(builder: ModelBuilder, weight: int, shape: tuple[int, ...]) -> int:
    tensor = builder.tensor(shape, "float32")
    builder.operator("DEQUANTIZE", [weight], [tensor])
    return tensor


def run(layer: Dense, delegates: list[Any] | None = None) -> np.ndarray:
    interpreter = Interpreter(model_content=layer.model, experimental_delegates=delegates)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], layer.values)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("block", [0, 32, 64, 128, 256])
def test_dense_with_inputs_quantized_at_run_time(tier: str, block: int, tmp_path: Path) -> None:
    ours_squared, theirs_squared = 0.0, 0.0
    for seed in range(15):
        layer = random_dense(seed, block)
        report = tmp_path / "report.json"
        ours = run(layer, [delegate.load(cpu=tier, report=report, threads=1 + seed % 2)])
        told = json.loads(report.read_text())
        assert told["delegated"] == 1, told
        exact, bound = layer.exact(), layer.rounding_bound()
        assert np.all(np.abs(ours - exact) <= bound * 1.001 + 1e-5), f"seed {seed}"
        ours_squared += float(np.sum(((ours - exact) / bound) ** 2))
        theirs_squared += float(np.sum(((run(layer) - exact) / bound) ** 2))
    assert ours_squared <= 1.01 * theirs_squared


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(("bits", "block"), [(4, 0), (4, 32), (4, 128), (8, 0)])
def test_dense_with_weights_alone_quantized(tier: str, bits: int, block: int, tmp_path: Path) -> None:
    ours_squared, theirs_squared = 0.0, 0.0
    for seed in range(15):
        layer = random_dense(seed, block, weight_only=True, bits=bits)
        report = tmp_path / "report.json"
        ours = run(layer, [delegate.load(cpu=tier, report=report, threads=1 + seed % 2)])
        told = json.loads(report.read_text())
        if told["declined"] and told["declined"][-1]["reason"].startswith("no fast kernel"):
            assert bits == 8
            return
        assert told["delegated"] == told["total"] == 2, told
        exact = layer.exact()
        magnitude = np.abs(layer.values.astype(np.float64)) @ np.abs(layer.weights.T) + np.abs(layer.bias)
        # A few rounding errors of float32, whatever the number of inputs.
        assert np.all(np.abs(ours - exact) <= 4 * 2.0**-24 * magnitude), f"seed {seed}"
        if block == 0:  # the runtime's DEQUANTIZE takes no blocks
            ours_squared += float(np.sum(((ours - exact) / magnitude) ** 2))
            theirs_squared += float(np.sum(((run(layer) - exact) / magnitude) ** 2))
    assert ours_squared <= theirs_squared


def test_values_that_are_no_numbers_stay_in_their_row() -> None:
    layer = next(layer for layer in (random_dense(s, weight_only=True) for s in range(9)) if len(layer.values) > 2)
    values = layer.values.copy()
    values[1, 0] = np.nan
    values[2, 0] = np.inf
    changed = run(dataclasses.replace(layer, values=values), [delegate.load()])
    kept = run(layer, [delegate.load()])
    np.testing.assert_array_equal(np.delete(changed, [1, 2], 0), np.delete(kept, [1, 2], 0))


@pytest.mark.parametrize("weight_only", [False, True])
def test_inspect_tells_blocks_and_what_the_delegate_takes(weight_only: bool) -> None:
    layer = next(layer for layer in (random_dense(s, 32, weight_only) for s in range(9)) if layer.weights.size > 1000)
    document = inspect(layer.model)
    (weight,) = document["weights"]
    assert (weight["op"], weight["bits"], weight["granularity"], weight["group_size"]) == (
        "FULLY_CONNECTED",
        4,
        "group",
        32,
    )
    assert weight["shape"] == list(layer.weights.shape)
    assert document["compression_ratio"] > 1.5
    assert [node["op"] for node in document["delegate"]["declined"]] == []


def weight_only_chain(*, shared: bool = False, output: bool = False, between: bool = False) -> tuple[bytes, np.ndarray]:
    """Two weight-only layers; they share their weights, or the first one's are an output too, or a TANH is between."""
    rng = np.random.default_rng(5)
    builder = ModelBuilder()
    tensor = builder.tensor((4, 64), "float32")
    builder.inputs = [tensor]
    weights = []
    for _ in range(1 if shared else 2):
        values = rng.integers(-8, 8, (64, 64)).astype(np.int8)
        constant = builder.tensor((64, 64), "int4", Quantization(np.full(64, 0.02, np.float32)), values)
        weights.append(dequantized(builder, constant, (64, 64)))
    for i in range(2):
        result = builder.tensor((4, 64), "float32")
        builder.fully_connected([tensor, weights[0 if shared else i], -1], result)
        tensor = result
        if between and i == 0:
            tensor = builder.tensor((4, 64), "float32")
            builder.operator("TANH", [result], [tensor])
    builder.outputs = [tensor, *(weights[:1] if output else [])]
    return builder.build(), rng.normal(0, 1, (4, 64)).astype(np.float32)


@pytest.mark.parametrize(
    ("chain", "declined"),
    [
        ({}, []),
        ({"shared": True}, []),
        ({"between": True}, ["TANH"]),
        ({"output": True}, ["DEQUANTIZE"]),
    ],
)
def test_a_dequantize_goes_where_layers_alone_read_it(
    chain: dict[str, bool], declined: list[str], tmp_path: Path
) -> None:
    model, values = weight_only_chain(**chain)
    report = tmp_path / "report.json"
    outputs = []
    for delegates in (None, [delegate.load(report=report)]):
        interpreter = Interpreter(model_content=model, experimental_delegates=delegates)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
        for _ in range(2):
            interpreter.invoke()
        outputs.append([interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()])
    assert [node["op"] for node in json.loads(report.read_text())["declined"]] == declined
    for ours, theirs in zip(outputs[1], outputs[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tier", TIERS)
def test_convolution_with_inputs_quantized_at_run_time(tier: str, tmp_path: Path) -> None:
    ours_squared, theirs_squared = 0.0, 0.0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        batch, height, width, channels = (int(rng.integers(1, n)) for n in (4, 12, 12, 40))
        outputs, kernel = int(rng.integers(1, 40)), (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        quantized = rng.integers(-8, 8, (outputs, *kernel, channels)).astype(np.int8)
        scale = rng.uniform(0.01, 0.1, outputs).astype(np.float32)
        bias = rng.normal(0, 1, outputs).astype(np.float32)
        activation = str(rng.choice(list(RANGES)))
        builder = ModelBuilder()
        source = builder.tensor((batch, height, width, channels), "float32")
        weight = builder.tensor(quantized.shape, "int4", Quantization(scale), quantized)
        extent = [output_size(n, k, s, 1, "same") for n, k, s in zip((height, width), kernel, stride, strict=True)]
        builder.inputs, builder.outputs = [source], [builder.tensor((batch, *extent, outputs), "float32")]
        constants = [weight, builder.tensor((outputs,), "float32", None, bias)]
        builder.conv2d([source, *constants], builder.outputs[0], stride=stride, activation=activation)
        values = rng.normal(rng.uniform(-2, 2, (batch, 1, 1, 1)), 2, (batch, height, width, channels))
        values = values.astype(np.float32)

        report = tmp_path / "report.json"
        layer = Dense(builder.build(), values, np.zeros(0), bias, activation)
        ours = run(layer, [delegate.load(cpu=tier, report=report, threads=1 + seed % 2)])
        assert json.loads(report.read_text())["delegated"] == 1
        weights = np.moveaxis(quantized * scale.astype(np.float64)[:, None, None, None], 0, -1)
        exact = convolve(values.astype(np.float64), weights, stride) + bias
        exact = np.clip(exact, *RANGES[activation])
        spread = values.max((1, 2, 3), initial=0).astype(np.float64) - values.min((1, 2, 3), initial=0)
        bound = spread[:, None, None, None] / 255 * np.abs(weights).sum((0, 1, 2))
        assert np.all(np.abs(ours - exact) <= bound * 1.001 + 1e-5), f"seed {seed}"
        ours_squared += float(np.sum(((ours - exact) / bound) ** 2))
        theirs_squared += float(np.sum(((run(layer) - exact) / bound) ** 2))
    assert ours_squared <= 1.01 * theirs_squared


def convolve(images: np.ndarray, weights: np.ndarray, stride: tuple[int, int]) -> np.ndarray:
    """SAME convolution of NHWC `images` with HWIO `weights`."""
    kernel = weights.shape[:2]
    extent = [-(-n // s) for n, s in zip(images.shape[1:3], stride, strict=True)]
    total = [max(0, (e - 1) * s + k - n) for e, s, k, n in zip(extent, stride, kernel, images.shape[1:3], strict=True)]
    padded = np.pad(images, [(0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)])
    result = np.zeros((images.shape[0], *extent, weights.shape[3]))
    for i, j in np.ndindex(*kernel):
        rows = padded[:, i : i + (extent[0] - 1) * stride[0] + 1 : stride[0]]
        result += rows[:, :, j : j + (extent[1] - 1) * stride[1] + 1 : stride[1]] @ weights[i, j]
    return result
