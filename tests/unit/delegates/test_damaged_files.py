"""Damaged files: with the delegate a runtime does no worse than without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("first", "count"), [(0, 50), pytest.param(50, 350, marks=pytest.mark.slow)])
def test_the_delegate_does_as_the_runtime_alone(first: int, count: int) -> None:
    program = [sys.executable, "-m", "tests.unit.delegates.damaged_files_process", f"{first}", f"{count}"]
    done = subprocess.run(program, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["found"] == []
    # The damage is neither too small nor too great.
    assert told["alone"]["ok"] > count / 5
    assert told["alone"]["error"] > count / 5
    assert told["alone"].get("died", 0) < count / 20
