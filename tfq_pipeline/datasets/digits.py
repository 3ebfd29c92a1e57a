"""Digits (Alpaydin and Kaynak 1998, the test half of UCI's optdigits): 1,797 written digits, 8 x 8 of 17 greys.

Read from the package ``scikit-learn``, which has them as text.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from tfq_pipeline.datasets import packaged
from tfq_pipeline.errors import BadInput

NAME = "digits"
CLASSES = tuple("0123456789")
DISTRIBUTION = "scikit-learn"
CALIBRATION_SAMPLES = 128
# In the order of the file, whose writers follow each other: most of the test images are of writers not trained on.
TRAINING_SAMPLES = 1000

_FILE = "datasets/data/digits.csv.gz"
_COLUMNS, _DARKEST = 8 * 8 + 1, 16
_CALIBRATION_SEED = 1998


def arrays(split: str, root: Path | None = None, hold_out: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """One split in memory.

    Args:
        split: "train" (of the first 1,000 images), "calibration" (128 of these, the same ones every time) or "test"
            (the other 797).
        root: folder of digits.csv.gz; that of the installed package by default.
        hold_out: leave the calibration images out of "train".

    Returns:
        Images float32 [n, 8, 8, 1] in 0..1, labels int32 [n].

    Raises:
        BadInput: the file is missing or damaged.
    """
    table = _table(_path(root))
    first = np.arange(min(TRAINING_SAMPLES, len(table)))
    held = np.random.default_rng(_CALIBRATION_SEED).choice(first, min(CALIBRATION_SAMPLES, len(first)), replace=False)
    chosen = {
        "train": np.setdiff1d(first, held) if hold_out else first,
        "calibration": held,
        "test": np.arange(len(first), len(table)),
    }[split]
    images = table[chosen, :-1].reshape(-1, 8, 8, 1) / np.float32(_DARKEST)
    return images.astype(np.float32), table[chosen, -1].astype(np.int32)


def checksums(split: str, root: Path | None = None) -> dict[str, str]:
    """SHA-256 by file of what the split was read from."""
    del split
    path = _path(root)
    return {path.name: packaged.sha256(path)}


def _path(root: Path | None) -> Path:
    return packaged.find(NAME, "sklearn", DISTRIBUTION, _FILE, root)


def _table(path: Path) -> np.ndarray:
    """Rows of 64 greys of 0..16 and a label."""
    mend = f"install {DISTRIBUTION} again"
    try:
        text = gzip.decompress(path.read_bytes()).decode("ascii")
        table = np.array([line.split(",") for line in text.split()], np.float32)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise BadInput(f"{path}: cannot be read as gzipped rows of numbers ({error}); {mend}") from error
    if table.ndim != 2 or table.shape[1] != _COLUMNS:
        raise BadInput(f"{path}: of shape {table.shape}, not rows of {_COLUMNS} numbers; {mend}")
    if table.min() < 0 or table[:, :-1].max() > _DARKEST or table[:, -1].max() >= len(CLASSES):
        raise BadInput(f"{path}: has greys outside 0..{_DARKEST} or labels outside 0..{len(CLASSES) - 1}; {mend}")
    return table
