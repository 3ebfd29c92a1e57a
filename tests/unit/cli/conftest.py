"""The command, and a model and data that are as they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.command import Command
from tests.nets import grey_images, keras3_net
from tests.unit.delegates.model_builder import ModelBuilder, Quantization, random_layer


@pytest.fixture
def tfq(capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(capfd)


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``small.keras`` and ``data.npz`` (x and y)."""
    folder = tmp_path_factory.mktemp("good")
    keras3_net().save(folder / "small.keras")
    x, y = grey_images()
    np.savez(folder / "data.npz", x=x, y=y)
    return folder


@pytest.fixture(scope="session")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `.tflite` of one dense layer."""
    builder = ModelBuilder()
    source = builder.tensor((1, 4), "int8", Quantization(0.05), name="x")
    output, _, _ = random_layer(builder, np.random.default_rng(0), "dense", source, (1, 4), 0.05, out=3)
    builder.inputs, builder.outputs = [source], [output]
    path = tmp_path_factory.mktemp("tflite") / "dense.tflite"
    path.write_bytes(builder.build())
    return path
