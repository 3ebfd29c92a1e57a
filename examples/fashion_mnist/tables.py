"""What the tables of techniques have in common."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

# First and last layer keep 8 bits: rules of a recipe.
ENDS = "rules: [{match: {position: first}, weights: {bits: 8}}, {match: {position: last}, weights: {bits: 8}}]"


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
