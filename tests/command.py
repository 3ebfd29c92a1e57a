"""The `tfq` command in this process: what it writes and its exit code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tfq_pipeline.cli.main import main


@dataclass(frozen=True)
class Done:
    """A command that ended: its exit code and all that it wrote, native libraries included."""

    code: int
    out: str
    err: str

    def document(self) -> Any:
        """The JSON document that stdout holds and nothing else."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    def error(self, code: int) -> str:
        """The one line of an error, which is the last one on stderr; stdout is empty."""
        lines = self.err.splitlines()
        assert (self.code, self.out) == (code, ""), (self.code, self.out, self.err)
        assert [line.startswith("tfq: error: ") for line in lines].count(True) == 1, self.err
        assert lines[-1].startswith("tfq: error: "), self.err
        return lines[-1].removeprefix("tfq: error: ")


class Command:
    """Calls the command line. pytest captures the file descriptors, so that native output counts too."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: object) -> Done:
        self._capture.readouterr()
        code = main([str(argument) for argument in arguments])
        return Done(code, *self._capture.readouterr())
