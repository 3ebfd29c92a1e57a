"""Checkpoints of a training run: one file, written whole after each epoch, from which a run that was killed goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.protocol import Graph
from tfq_pipeline.plan import Plan


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State after an epoch: variables in a fixed order, epochs done, loss and metrics by epoch."""

    variables: tuple[np.ndarray, ...]
    epochs: int
    history: dict[str, list[float]]

    def save(self, path: Path) -> None:
        """Writes the file; it appears whole or not at all.

        Raises:
            BadInput: for a folder that cannot be written to.
        """
        about = json.dumps({"epochs": self.epochs, "history": self.history}).encode()
        beside = path.with_suffix(".partial")
        try:
            with beside.open("wb") as file:
                arrays = {f"v{i}": value for i, value in enumerate(self.variables)}
                np.savez(file, **arrays, about=np.frombuffer(about, np.uint8))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as error:
            raise _refused(path.parent, error) from error
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Checkpoint | None:
        """Reads what `save` wrote; None where there is nothing yet.

        Raises:
            BadInput: for a damaged file.
        """
        if not path.exists():
            return None
        try:
            with np.load(path) as stored:
                about = json.loads(stored["about"].tobytes())
                variables = tuple(stored[f"v{i}"] for i in range(len(stored.files) - 1))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BadInput(f"checkpoint {path}: damaged; delete it to train from the start") from error
        return cls(variables, about["epochs"], about["history"])


def writable_folder(folder: Path) -> Path:
    """The folder for checkpoints, made where it is missing: found out before a training, not after its first epoch.

    Raises:
        BadInput: for a folder that cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise _refused(folder, error) from error


def _refused(folder: Path, error: OSError) -> BadInput:
    return BadInput(f"checkpoints {folder}: cannot be written to ({error.strerror}); choose another folder")


def fingerprint(graph: Graph, plan: Plan, options: Any, data: str) -> str:
    """What tells one run from another: weights, plan, options and the name of the data, as hexadecimal digits."""
    digest = hashlib.sha256(repr((options, data)).encode())
    for op in graph.linear_ops():
        digest.update(op.name.encode() + op.kernel.tobytes() + (b"" if op.bias is None else op.bias.tobytes()))
    for name, planned in (*plan.weights.items(), *plan.activations.items()):
        digest.update(f"{name} {planned.bits} {planned.granularity} {planned.group_size}".encode())
        if planned.affine is not None:
            digest.update(planned.affine.scale.tobytes() + planned.affine.zero_point.tobytes())
        for chosen in (planned.values, planned.kept):
            digest.update(b"" if chosen is None else chosen.tobytes())
    return digest.hexdigest()[:16]


def assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    """Sets variables to the values of a checkpoint."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
