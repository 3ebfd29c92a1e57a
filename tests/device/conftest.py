"""The real thing for tests: an adb server of its own, one emulated arm64 device and a small INT4 model."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from android_bench.adb import AdbDevice
from android_bench.emulator import Emulator
from tests.unit.delegates.model_builder import ModelBuilder, Quantization, random_layer

STORAGE_MB = 64


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.device)


@pytest.fixture(scope="session")
def adb_port() -> Iterator[int]:
    """Port of an adb server that only this run uses; a server that the user runs stays as it is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    adb = shutil.which("adb")
    assert adb, "adb is not installed; run: apt-get install adb"
    server = subprocess.Popen([adb, "-P", str(port), "nodaemon", "server"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield port
    server.kill()
    server.wait()


@pytest.fixture(scope="session")
def emulator(adb_port: int) -> Iterator[Emulator]:
    """An emulated Cortex-A76 for the whole run."""
    with Emulator(adb_port=adb_port, storage_mb=STORAGE_MB) as started:
        yield started


@pytest.fixture
def device(emulator: Emulator, adb_port: int) -> AdbDevice:
    """The emulated device behind the real adb."""
    return AdbDevice(emulator.serial, adb_port)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """INT4 convolution, depthwise convolution and dense layer with int8 activations: what the delegate knows."""
    rng = np.random.default_rng(7)
    builder = ModelBuilder()
    shape: tuple[int, ...] = (1, 12, 12, 8)
    source = builder.tensor(shape, "int8", Quantization(0.05, 3), name="image")
    builder.inputs = [source]
    scale = 0.05
    source, shape, scale = random_layer(builder, rng, "conv", source, shape, scale, out=16, stride=(2, 2))
    source, shape, scale = random_layer(builder, rng, "depthwise", source, shape, scale)
    source, shape, scale = random_layer(builder, rng, "dense", source, shape, scale, out=10)
    builder.outputs = [source]
    path = tmp_path_factory.mktemp("model") / "int4.tflite"
    path.write_bytes(builder.build())
    return path


@pytest.fixture(scope="session")
def samples() -> np.ndarray:
    """Inputs for the model."""
    return np.random.default_rng(11).integers(-128, 128, (6, 12, 12, 8), dtype=np.int8)
