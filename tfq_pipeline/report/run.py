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
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


def document_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """A run's document with the time, versions and the machine added.

    Args:
        document: a quantize document, or one with the keys above.
    """
    provenance = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "host": _host(),
    }
    return {**provenance, **document}


@contextmanager
def whole_folder(directory: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a folder to fill; its files are moved into `directory` when the block ends well.

    Args:
        directory: made where it is missing; files of the same names in it are replaced.

    Raises:
        BadInput: the folder cannot be made or written to.
    """
    target = Path(directory).absolute()
    try:
        near = target if target.is_dir() else target.parent
        near.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=near, prefix=f".{target.name}.") as name:
            yield Path(name)
            target.mkdir(exist_ok=True)
            for file in sorted(Path(name).iterdir()):
                file.replace(target / file.name)
    except OSError as error:
        raise BadInput(f"{directory}: cannot be written to ({error.strerror}); choose another folder") from error


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
    if not isinstance(document, dict) or not (document.get("runs") or "recipe" in document):
        raise BadInput(f"{path}: is no run; give a folder that 'tfq quantize --report' wrote")
    return with_runs(document)


def with_runs(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with a list `runs`, of one where it is a quantize document itself."""
    if "runs" in document:
        return dict(document)
    return {**document, "runs": [{key: document[key] for key in document if key not in ("benchmarks", "agreement")}]}


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
