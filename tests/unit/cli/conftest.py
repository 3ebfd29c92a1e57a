"""The command, and a model and data that are as they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.command import Command
from tests.nets import grey_images, keras3_net


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
