"""Data files that lie inside Python packages: read where they are, their packages never imported."""

from __future__ import annotations

import hashlib
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from tfq_pipeline.errors import BadInput

# Where `make setup` unpacks what it needs no code of; packages that were installed as usual are found before it.
UNPACKED = Path(sys.prefix) / "share" / "tfq"


def find(data_set: str, package: str, distribution: str, path: str, root: Path | None) -> Path:
    """A file of a package.

    Args:
        data_set: whose file it is, for the message.
        package, distribution: its names when imported and when installed.
        path: inside the package.
        root: folder to find a file of this name in instead.

    Raises:
        BadInput: when it is not there.
    """
    if root is not None:
        chosen = root / Path(path).name
        if not chosen.is_file():
            raise BadInput(f"{root}: no {chosen.name} in it; name the folder that holds the files of {data_set}")
        return chosen
    spec = PathFinder.find_spec(package, [*sys.path, str(UNPACKED)])
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    for place in places:
        if (Path(place) / path).is_file():
            return Path(place) / path
    where = "not installed" if not places else f"{Path(places[0]) / path} is missing"
    raise BadInput(
        f"data set {data_set}: it is a file of the package {distribution}, {where}; "
        f"run 'pip install --no-deps {distribution}'"
    )


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
