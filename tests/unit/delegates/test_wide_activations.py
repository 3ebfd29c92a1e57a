"""int16 activations beside INT4 and INT8 weights: outputs equal the runtime's own kernels bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.delegates.model_builder import ModelBuilder, Quantization, random_layer, random_network
from tests.unit.delegates.test_exactness import run
from tfq_pipeline import delegate, native

TIERS = ["reference", *(["avx2", "avx512_vnni"] if native.host_platform().endswith("x86_64") else ["neon"]), "auto"]


def random_model(seed: int, weights: tuple[str, ...] = ("int4", "int8")) -> tuple[bytes, np.ndarray]:
    rng = np.random.default_rng(seed)
    builder = ModelBuilder()
    shape = random_network(builder, rng, int(rng.integers(1, 5)), weights, "int16")
    return builder.build(), rng.integers(-(2**15), 2**15, shape).astype(np.int16)


@pytest.mark.parametrize("tier", TIERS)
def test_random_networks_are_bit_exact(tier: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    for seed in range(80):
        model, values = random_model(seed)
        ours = run(model, values, [delegate.load(threads=1 + seed % 2, cpu=tier, report=report)])
        np.testing.assert_array_equal(ours, run(model, values), err_msg=f"seed {seed}")
        assert json.loads(report.read_text())["declined"] == []


@pytest.mark.parametrize("tier", TIERS)
def test_int4_depthwise_equals_its_values_at_int8(tier: str) -> None:
    """The runtime reads INT4 weights of such a layer as if they were int8, so it cannot be asked itself."""
    for seed in range(20):
        models = []
        for weights in ("int4", "int8"):
            rng = np.random.default_rng(seed)
            builder = ModelBuilder()
            shape = (1, 7, 6, int(rng.integers(1, 40)))
            source = builder.tensor(shape, "int16", Quantization(0.001))
            filter_values = rng.integers(-8, 8, (1, 3, 3, shape[3]))
            scales = rng.uniform(0.01, 0.05, shape[3]).astype(np.float32)
            weight = builder.tensor(
                filter_values.shape, weights, Quantization(scales, 0, 3), filter_values.astype(np.int8)
            )
            output = builder.tensor(shape, "int16", Quantization(0.0005))
            builder.depthwise_conv2d([source, weight], output)
            builder.inputs, builder.outputs = [source], [output]
            models.append(builder.build())
        values = np.random.default_rng(seed).integers(-(2**15), 2**15, shape).astype(np.int16)
        ours = run(models[0], values, [delegate.load(cpu=tier)])
        np.testing.assert_array_equal(ours, run(models[1], values), err_msg=f"seed {seed}")


def one_layer(seed: int) -> tuple[bytes, np.ndarray]:
    """A random layer of INT8 weights; dense ones have one scale, for runtime 2.14 knows no other there."""
    rng = np.random.default_rng(seed)
    op = ("conv", "depthwise", "dense")[seed % 3]
    builder = ModelBuilder()
    shape = (2, 5, 6, int(rng.integers(1, 40)))
    source = builder.tensor(shape, "int16", Quantization(0.0002))
    options: dict[str, Any] = {"keep_num_dims": True} if op == "dense" else {}
    options["activation"] = str(rng.choice(["none", "relu", "relu_n1_to_1"]))
    options["bias_dtype"] = "int32" if seed % 6 == 5 else "int64"
    output, _, _ = random_layer(
        builder,
        rng,
        op,
        source,
        shape,
        0.0002,
        out=int(rng.integers(1, 40)),
        weight_dtype="int8",
        activations="int16",
        per_channel=op != "dense",
        **options,
    )
    builder.inputs, builder.outputs = [source], [output]
    return builder.build(), rng.integers(-(2**15), 2**15, shape).astype(np.int16)


def test_runtime_2_14_is_matched_bit_for_bit(tmp_path: Path) -> None:
    program = Path(__file__).with_name("tflite_runtime_process.py")
    outputs: list[dict[str, np.ndarray]] = []
    delegated = [str(native.library()), "match=tflite_2.14", "cpu=reference"]
    for name, options in (("built_in", []), ("delegate", delegated)):
        folder = tmp_path / name
        folder.mkdir()
        for seed in range(60):
            model, values = one_layer(seed)
            (folder / f"{seed}.tflite").write_bytes(model)
            np.save(folder / f"{seed}.npy", values)
        subprocess.run([sys.executable, str(program), str(folder), *options], check=True, timeout=300)
        outputs.append({path.name: np.load(path) for path in folder.glob("*.out.npy")})
    built_in, ours = outputs
    assert len(ours) == len(built_in) == 60
    for name, expected in built_in.items():
        np.testing.assert_array_equal(ours[name], expected, err_msg=f"seed {name}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bias_dtype": "int32"}, "bias 'tensor_2' is INT32, not INT64"),
        ({"zero_point": 5}, "output 'tensor_3' has a zero point of 5, not 0 as INT16 has it"),
    ],
)
def test_declined_with_the_reason(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    builder = ModelBuilder()
    source = builder.tensor((1, 5, 5, 8), "int16", Quantization(0.001))
    options = {"activations": "int16", "bias_dtype": "int64", **change}
    output, _, _ = random_layer(builder, np.random.default_rng(0), "conv", source, (1, 5, 5, 8), 0.001, **options)
    builder.inputs, builder.outputs = [source], [output]
    report = tmp_path / "report.json"
    try:
        run(builder.build(), np.zeros((1, 5, 5, 8), np.int16), [delegate.load(report=report)])
    except (RuntimeError, ValueError):
        assert "zero_point" in change  # which the runtime refuses too
    (declined,) = json.loads(report.read_text())["declined"]
    assert declined["reason"] == reason
