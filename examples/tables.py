"""What the tables of techniques have in common: results that are kept, and tables made of them."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# First and last layer keep 8 bits: rules of a recipe.
ENDS = "rules: [{match: {position: first}, weights: {bits: 8}}, {match: {position: last}, weights: {bits: 8}}]"

# What tells results of one store apart; "settings" is a digest of all else that they depend on but the code.
Key = Mapping[str, Any]


class Store:
    """Results in a file that is whole after each of them: a run that was killed goes on where it stopped.

    Args:
        path: of the JSON file; there is none before the first result.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    def find(self, key: Key) -> dict[str, Any] | None:
        """The result with this key."""
        return next((e for e in self.entries if all(e[name] == value for name, value in key.items())), None)

    def fill(self, keys: Iterable[Key], measure: Callable[[Key], Mapping[str, Any]], fresh: bool) -> None:
        """Measures what is not there yet, or all of it if `fresh`; with the seconds it took and the commit."""
        for key in keys:
            if not fresh and self.find(key) is not None:
                continue
            started = time.perf_counter()
            found = {**key, **measure(key), "seconds": round(time.perf_counter() - started, 2), "commit": _commit()}
            self._put(key, found)
            print(json.dumps(found), file=sys.stderr, flush=True)

    def _put(self, key: Key, found: dict[str, Any]) -> None:
        from tfq_pipeline.tflite import flatbuffer as fb

        self.entries = [e for e in self.entries if any(e[name] != value for name, value in key.items())]
        self.entries.append(found)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fb.write_file(self.path, (json.dumps(self.entries, indent=1) + "\n").encode())


def settings(file: Path, *parts: object) -> str:
    """Digest of a model's file and of what else results depend on, as text."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return hashlib.sha256(" ".join(map(str, (digest, *parts))).encode()).hexdigest()[:16]


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"


def drop_cell(entries: list[dict[str, Any]]) -> str:
    """Mean drop over entries of one technique and net, and the largest distance from it where there are several."""
    drops = [entry["drop"] for entry in entries if "drop" in entry]
    if not drops:
        return "refused" if entries else ""
    mean = float(np.mean(drops))
    return f"{mean:.2f}" if len(drops) == 1 else f"{mean:.2f} ± {max(abs(drop - mean) for drop in drops):.2f}"


def write_table(document: str, name: str, table: str) -> None:
    """Puts a table between the markers ``<!-- name -->`` and ``<!-- end -->`` of a document."""
    path = Path(document)
    marked = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
    path.write_text(marked.sub(lambda match: match[1] + table + match[2], path.read_text()))
