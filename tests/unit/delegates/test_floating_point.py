"""Nodes with floating-point inputs and outputs: the delegate against exact sums in float64, and against XNNPACK."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tests.unit.delegates.model_builder import BlockQuantization, ModelBuilder, Quantization
from tfq_pipeline import delegate, native

TIERS = ["reference", "avx2", "auto"] if native.host_platform().endswith("x86_64") else ["reference", "auto"]
RANGES = {"none": (-np.inf, np.inf), "relu": (0, np.inf), "relu6": (0, 6), "relu_n1_to_1": (-1, 1)}


@dataclass(frozen=True)
class Dense:
    """A dense layer with INT4 weights: the file, and the weights in float64."""

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


def random_dense(seed: int, block: int = 0) -> Dense:
    rng = np.random.default_rng(seed)
    inputs = int(rng.integers(1, 5)) * block if block else int(rng.integers(1, 300))
    outputs, rows = int(rng.integers(1, 80)), int(rng.integers(1, 12))
    quantized = rng.integers(-8, 8, (outputs, inputs)).astype(np.int8)
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
    weight = builder.tensor((outputs, inputs), "int4", quantization, quantized)
    builder.inputs, builder.outputs = [source], [builder.tensor((rows, outputs), "float32")]
    builder.fully_connected(
        [source, weight, builder.tensor((outputs,), "float32", None, bias)], builder.outputs[0], activation=activation
    )
    values = rng.normal(rng.uniform(-2, 2), rng.uniform(0.1, 3), (rows, inputs)).astype(np.float32)
    return Dense(builder.build(), values, weights, bias.astype(np.float64), activation)


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
