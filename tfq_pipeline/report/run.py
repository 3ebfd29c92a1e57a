"""A run folder: ``run.json`` holds one quantize document, or several with what was measured of them.

Beside the keys of a quantize document, or instead of them:

- ``runs``: quantize documents;
- ``benchmarks``: objects of the benchmark document;
- ``agreement``: ``{"model", "samples", "differing", "largest_lsb"}``, the delegate's outputs against the runtime's own;
- ``title``, ``created``, ``versions``, ``host``: where it comes from.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tfq_pipeline.errors import BadInput

FILE = "run.json"

_PACKAGES = (
    "tfq",
    "tensorflow",
    "tf-keras",
    "keras",
    "tensorflow-model-optimization",
    "ai-edge-litert",
    "numpy",
)


def create(directory: str | os.PathLike[str], document: Mapping[str, Any]) -> Path:
    """Writes ``run.json``, with versions and machine added, and returns the folder.

    Args:
        directory: made where it is missing; what lies in it of an older run is replaced.
        document: a quantize document, or one with the keys above.

    Raises:
        BadInput: the folder cannot be made or written to.
    """
    folder = Path(directory)
    provenance = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "host": _host(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / FILE, json.dumps({**provenance, **document}, indent=1) + "\n")
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written to ({error.strerror}); choose another folder") from error
    return folder


def load(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads ``run.json``; a single quantize document becomes a list of one in ``runs``.

    Raises:
        BadInput: the folder holds no run.
    """
    path = Path(directory) / FILE
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file; give a folder that 'tfq quantize --report' wrote") from error
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path}: cannot be read as a run ({error}); write it again with 'tfq quantize --report'"
        ) from error
    if not isinstance(document, dict) or not ("runs" in document or "recipe" in document):
        raise BadInput(f"{path}: is no run; give a folder that 'tfq quantize --report' wrote")
    if "runs" not in document:
        document["runs"] = [{key: document[key] for key in document if key not in ("benchmarks", "agreement")}]
    return document


def write(path: Path, text: str) -> None:
    """Writes a file so that it appears whole or not at all."""
    beside = path.with_name(f"{path.name}.partial")
    try:
        beside.write_text(text, "utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _host() -> dict[str, Any]:
    return {"processor": _processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.release()}"}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
