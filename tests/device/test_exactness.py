"""The delegate against the runtime's own kernels on arm64, bit for bit, on CPUs of every kernel tier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from android_bench.adb import AdbDevice
from android_bench.emulator import Emulator
from android_bench.experiment import Delegate, Experiment, Settings
from android_bench.session import Session, open_session
from tests.unit.delegates.around import add_net
from tests.unit.delegates.model_builder import ModelBuilder, random_network

# On these the delegate chooses by itself the kernels of neon, of neon_dotprod, and the best that qemu knows.
CPUS = ["cortex-a53", "cortex-a76", "max"]
SAMPLES = 2


def random_networks(path: Path, seed: int, count: int, deepest: int, activations: str = "int8") -> list[np.ndarray]:
    """Writes a model of independent random networks, an input and an output each, of INT4 and INT8 weights; returns
    samples for the inputs.
    """
    kind = np.iinfo(activations)
    rng = np.random.default_rng(seed)
    builder = ModelBuilder()
    shapes = [
        random_network(builder, rng, int(rng.integers(1, deepest + 1)), activations=activations) for _ in range(count)
    ]
    path.write_bytes(builder.build())
    return [rng.integers(kind.min, kind.max, (SAMPLES, *shape), kind.dtype, endpoint=True) for shape in shapes]


@pytest.fixture(scope="module", params=CPUS)
def session(request: pytest.FixtureRequest, adb_port: int) -> Iterator[Session]:
    with (
        Emulator(cpu=request.param, adb_port=adb_port) as started,
        open_session(AdbDevice(started.serial, adb_port)) as s,
    ):
        yield s


# Single nodes, then small networks: how many of them one file holds, how many layers each has at most.
@pytest.mark.parametrize("activations", ["int8", "int16"])
@pytest.mark.parametrize(("count", "deepest", "threads"), [(24, 1, 1), (10, 5, 2)])
def test_random_networks_are_bit_exact(
    session: Session, tmp_path: Path, count: int, deepest: int, threads: int, activations: str
) -> None:
    model = tmp_path / "networks.tflite"
    inputs = random_networks(model, deepest, count, deepest, activations)
    settings = Settings(threads=threads, runs=1, warmup=0, min_secs=0.0, use_xnnpack=False)
    delegate = Delegate("int4", {"match": "litert"})
    expected = session.outputs(Experiment(model, None, settings), inputs)
    delegated = session.outputs(Experiment(model, delegate, settings), inputs)
    assert len(expected) == count
    for i, (ours, theirs) in enumerate(zip(delegated, expected, strict=True)):
        np.testing.assert_array_equal(ours, theirs, err_msg=f"network {i}, input {inputs[i].shape}")
    assert sum(len(np.unique(output)) > 10 for output in expected) >= count / 2  # relu and saturation flatten some
    nodes = session.benchmark(Experiment(model, delegate, settings))["nodes"]
    assert nodes["delegated"] == nodes["total"] >= count


# One thread: the runtime cuts a mean by threads, and rounds otherwise at the end of each piece.
@pytest.mark.parametrize("match", ["litert", "xnnpack"])
def test_operators_around_are_bit_exact(session: Session, tmp_path: Path, match: str) -> None:
    rng = np.random.default_rng(5)
    builder = ModelBuilder()
    shapes = [add_net(builder, rng, beside_xnnpack=match == "xnnpack") for _ in range(20)]
    model = tmp_path / "networks.tflite"
    model.write_bytes(builder.build())
    inputs = [rng.integers(-128, 128, (SAMPLES, *shape), dtype=np.int8) for shape in shapes]
    settings = Settings(threads=1, runs=1, warmup=0, min_secs=0.0, use_xnnpack=match == "xnnpack")
    delegate = Delegate("int4", {"match": match})
    expected = session.outputs(Experiment(model, None, settings), inputs)
    delegated = session.outputs(Experiment(model, delegate, settings), inputs)
    for i, (ours, theirs) in enumerate(zip(delegated, expected, strict=True)):
        np.testing.assert_array_equal(ours, theirs, err_msg=f"network {i}, input {inputs[i].shape}")
    nodes = session.benchmark(Experiment(model, delegate, settings))["nodes"]
    assert nodes["delegated"] == nodes["total"] > 60
