"""The delegate's outputs equal the runtime's own kernels bit for bit, on random networks of INT4 and INT8 weights at
every kernel tier."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate

from tests.unit.delegates.around import AroundNet, random_net
from tests.unit.delegates.model_builder import ACTIVATIONS, ModelBuilder, random_network
from tfq_pipeline import delegate, native
from tfq_pipeline.errors import BadInput

BUILT_IN = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
# What the delegate is told to match, and the runtime that computes so.
RESOLVERS = {"litert": BUILT_IN, "xnnpack": OpResolverType.AUTO}
TIERS = ["reference", *(["avx2", "avx512_vnni"] if native.host_platform().endswith("x86_64") else ["neon"]), "auto"]


def random_model(seed: int) -> tuple[bytes, tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    builder = ModelBuilder()
    shape = random_network(builder, rng, depth=int(rng.integers(1, 5)))
    return builder.build(), shape


def run(
    model: bytes, values: np.ndarray, delegates: list[Any] | None = None, resolver: OpResolverType = BUILT_IN
) -> np.ndarray:
    return run_all(model, [values], delegates, resolver)


def run_all(
    model: bytes, inputs: list[np.ndarray], delegates: list[Any] | None = None, resolver: OpResolverType = BUILT_IN
) -> np.ndarray:
    interpreter = Interpreter(
        model_content=model, experimental_delegates=delegates, experimental_op_resolver_type=resolver
    )
    details = interpreter.get_input_details()
    for detail, values in zip(details, inputs, strict=True):
        interpreter.resize_tensor_input(detail["index"], values.shape)
    interpreter.allocate_tensors()
    for detail, values in zip(details, inputs, strict=True):
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


@pytest.mark.parametrize("tier", TIERS)
def test_random_networks_are_bit_exact(tier: str, tmp_path: Path) -> None:
    for seed in range(80):
        model, shape = random_model(seed)
        values = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
        report = tmp_path / "report.json"
        ours = run(model, values, [delegate.load(threads=1 + seed % 2, cpu=tier, report=report, match="litert")])
        np.testing.assert_array_equal(ours, run(model, values), err_msg=f"seed {seed}")
        told = json.loads(report.read_text())
        assert told["delegated"] == told["total"] > 0
        assert told["declined"] == []


@pytest.mark.parametrize("match", RESOLVERS)
@pytest.mark.parametrize("tier", TIERS)
def test_operators_around_are_bit_exact(match: str, tier: str, tmp_path: Path) -> None:
    taken: set[str] = set()
    for seed in range(100):
        # XNNPACK's own dense kernels multiply in float32, so that one in a million outputs differs.
        model, shape = random_net(seed, beside_xnnpack=match == "xnnpack")
        values = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
        report = tmp_path / "report.json"
        loaded = delegate.load(threads=1 + seed % 2, cpu=tier, report=report, match=match)
        ours = run(model, values, [loaded], RESOLVERS[match])
        np.testing.assert_array_equal(ours, run(model, values, None, RESOLVERS[match]), err_msg=f"seed {seed}")
        told = json.loads(report.read_text())
        assert told["declined"] == []
        taken.update(node["op"] for node in told["taken"])
    assert len(taken) == 23


@pytest.mark.parametrize("match", RESOLVERS)
@pytest.mark.parametrize("name", ["ADD", "MUL"])
def test_fused_bounds_between_two_steps(match: str, name: str) -> None:
    """6 / 12, 6 / 4 and 1 / 2 output steps are ties, which the runtimes round differently."""
    for seed, (activation, scale) in enumerate([("relu6", 12.0), ("relu6", 4.0), ("relu_n1_to_1", 2.0)]):
        rng = np.random.default_rng(seed)
        net = AroundNet(rng)
        x = net.input()
        a = net.layer(x, out=16)
        b = net.layer(x, out=16)
        options = getattr(schema, f"{name.capitalize()}OptionsT")()
        options.fusedActivationFunction = ACTIVATIONS[activation]
        output = net.op(name, [a.tensor, b.tensor], net.value(a.shape, scale, seed), options)
        net.builder.outputs = [output.tensor]
        model = net.builder.build()
        values = rng.integers(-128, 128, x.shape).astype(np.int8)
        expected = run(model, values, None, RESOLVERS[match])
        ours = run(model, values, [delegate.load(match=match)], RESOLVERS[match])
        np.testing.assert_array_equal(ours, expected, err_msg=f"{activation}, scale {scale}")


def test_resized_batch_is_bit_exact() -> None:
    for seed in range(20):
        model, shape = random_model(seed)
        values = np.random.default_rng(seed).integers(-128, 128, (shape[0] + 2, *shape[1:])).astype(np.int8)
        np.testing.assert_array_equal(run(model, values, [delegate.load(match="litert")]), run(model, values))


def test_runtime_2_14_is_matched_bit_for_bit(tmp_path: Path) -> None:
    program = Path(__file__).with_name("tflite_runtime_process.py")
    delegated = [str(native.library()), "match=tflite_2.14"]
    outputs: list[dict[str, np.ndarray]] = []
    for name, options in (("built_in", []), ("delegate", delegated)):
        folder = tmp_path / name
        folder.mkdir()
        for seed in range(80):
            model, shape = random_model(seed) if seed % 2 else random_net(seed)
            (folder / f"{seed}.tflite").write_bytes(model)
            np.save(folder / f"{seed}.npy", np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8))
        subprocess.run([sys.executable, str(program), str(folder), *options], check=True, timeout=300)
        refused = [path.read_text() for path in folder.glob("*.error")]
        # This runtime's own dense kernel refuses per-channel INT4; the delegate's takes it.
        assert all(name == "built_in" and "fully_connected" in reason for reason in refused)
        outputs.append({path.name: np.load(path) for path in folder.glob("*.out.npy")})
    built_in, ours = outputs
    assert len(ours) == 80
    assert len(built_in) >= 20
    for name, expected in built_in.items():
        np.testing.assert_array_equal(ours[name], expected, err_msg=f"seed {name}")


def test_two_interpreters_in_two_threads() -> None:
    failures: list[int] = []

    def work(seed: int) -> None:
        model, shape = random_model(seed)
        values = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
        expected = run(model, values)
        for _ in range(5):
            if not np.array_equal(run(model, values, [delegate.load(threads=2, match="litert")]), expected):
                failures.append(seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


def test_bad_options_are_one_line() -> None:
    with pytest.raises(BadInput, match=r"'cpu' is 'fast'; allowed: auto") as caught:
        delegate.load(cpu="fast")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="unknown option 'speed'"):
        load_delegate(str(native.library()), {"speed": "9"})


def matrix_product(rng: np.random.Generator, second_zero_point: int, adjoint: bool) -> tuple[bytes, list[np.ndarray]]:
    """A file with one BATCH_MATMUL, and its two inputs."""
    net = AroundNet(rng)
    lead, (m, k, n) = tuple(rng.integers(1, 5, 2)), rng.integers(1, 60, 3)
    a = net.value((*lead, m, k), 0.05, net.zero_point())
    b = net.value((*lead, n, k) if adjoint else (*lead, k, n), 0.03, second_zero_point)
    net.builder.inputs.extend([a.tensor, b.tensor])
    scale = float(0.05 * 0.03 * np.sqrt(k) * rng.uniform(5, 200))
    options = schema.BatchMatMulOptionsT()
    options.adjY = adjoint
    output = net.op("BATCH_MATMUL", [a.tensor, b.tensor], net.value((*lead, m, n), scale, net.zero_point()), options)
    net.builder.outputs = [output.tensor]
    return net.builder.build(), [rng.integers(-128, 128, v.shape).astype(np.int8) for v in (a, b)]


@pytest.mark.parametrize("match", RESOLVERS)
@pytest.mark.parametrize("tier", TIERS)
def test_matrix_products_of_activations(tier: str, match: str, tmp_path: Path) -> None:
    """Bit for bit beside the built-in kernel, which runs all but what XNNPACK takes: second factors of zero point
    0, whose sums it multiplies in float32, so that a tie may fall to the other side."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        zero_point = int(rng.choice([-128, 127, 0, 5, -77]))
        model, values = matrix_product(rng, zero_point, adjoint=seed % 2 == 0)
        report = tmp_path / "report.json"
        loaded = delegate.load(threads=1 + seed % 3, cpu=tier, match=match, report=report)
        ours = run_all(model, values, [loaded], RESOLVERS[match])
        assert json.loads(report.read_text())["delegated"] == 1
        expected = run_all(model, values, None, RESOLVERS[match])
        if match == "xnnpack" and zero_point == 0:
            assert np.abs(ours.astype(int) - expected).max() <= 1
            assert (ours != expected).mean() < 1e-3
        else:
            np.testing.assert_array_equal(ours, expected, err_msg=f"seed {seed}")


def row_of_shares(rng: np.random.Generator) -> tuple[bytes, np.ndarray]:
    """A file with one convolution and one SOFTMAX, and its input: rows of any length, sharp and flat ones."""
    net = AroundNet(rng)
    x = net.value((1, int(rng.integers(1, 5)), int(rng.integers(1, 7)), 3), 0.05, net.zero_point())
    net.builder.inputs.append(x.tensor)
    logits = net.layer(x, out=int(rng.integers(1, 400)), kernel=(1, 1), gain=float(rng.choice([0.05, 1.0, 8.0])))
    options = schema.SoftmaxOptionsT()
    options.beta = float(rng.choice([0.0, 0.01, 0.1, 1.0, 20.0]))
    output = net.op("SOFTMAX", [logits.tensor], net.value(logits.shape, 1 / 256, -128), options)
    net.builder.outputs = [output.tensor]
    return net.builder.build(), rng.integers(-128, 128, x.shape).astype(np.int8)


@pytest.mark.parametrize("match", RESOLVERS)
def test_softmax_of_any_rows(match: str, tmp_path: Path) -> None:
    levels: set[int] = set()
    for seed in range(60):
        model, values = row_of_shares(np.random.default_rng(seed))
        report = tmp_path / "report.json"
        ours = run(model, values, [delegate.load(threads=1 + seed % 3, match=match, report=report)], RESOLVERS[match])
        assert json.loads(report.read_text())["delegated"] == 2
        np.testing.assert_array_equal(ours, run(model, values, None, RESOLVERS[match]), err_msg=f"seed {seed}")
        levels.update(np.unique(ours).tolist())
    assert len(levels) > 60
