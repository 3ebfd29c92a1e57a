"""The command line, and the adb server of the device tests."""

from __future__ import annotations

import pytest

from tests.command import Command
from tests.device.conftest import adb_port

__all__ = ["adb_port"]


@pytest.fixture
def tfq(capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(capfd)
