"""Japanese Vowels (Kudo, Toyama and Shimbo 1999, UCI): who of nine men says "ae", 270 utterances to train and 370 to
test, each of 7 to 29 frames of 12 cepstral coefficients.

Read from the package ``aeon``, which has them as the .ts files of the time series archives.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfq_pipeline.datasets import packaged
from tfq_pipeline.errors import BadInput

NAME = "japanese_vowels"
CLASSES = tuple(f"speaker {number}" for number in range(1, 10))
DISTRIBUTION = "aeon"
CALIBRATION_SAMPLES = 54
FRAMES, COEFFICIENTS = 29, 12

_CALIBRATION_SEED = 1999


def arrays(split: str, root: Path | None = None, hold_out: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """One split in memory.

    Args:
        split: "train", "calibration" (54 of the training utterances, the same ones every time) or "test".
        root: folder of the .ts files; that of the installed package by default.
        hold_out: leave the calibration utterances out of "train".

    Returns:
        Series float32 [n, 29, 12], short ones with zeros at the end, labels int32 [n].

    Raises:
        BadInput: the file is missing or damaged.
    """
    series, labels = _read(_path(split, root))
    if split == "test":
        return series, labels
    total = len(series)
    held = np.random.default_rng(_CALIBRATION_SEED).choice(total, min(CALIBRATION_SAMPLES, total), replace=False)
    every = np.arange(total)
    chosen = held if split == "calibration" else np.setdiff1d(every, held) if hold_out else every
    return series[chosen], labels[chosen]


def checksums(split: str, root: Path | None = None) -> dict[str, str]:
    """SHA-256 by file of what the split was read from."""
    path = _path(split, root)
    return {path.name: packaged.sha256(path)}


def _path(split: str, root: Path | None) -> Path:
    part = "TEST" if split == "test" else "TRAIN"
    file = f"datasets/data/JapaneseVowels/JapaneseVowels_{part}.ts"
    return packaged.find(NAME, "aeon", DISTRIBUTION, file, root)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """After "@data" a line for each series: its dimensions parted by colons, then the class from 1; values of a
    dimension are parted by commas."""
    mend = f"install {DISTRIBUTION} again"
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read as text ({error}); {mend}") from error
    try:
        start = next(number for number, line in enumerate(lines) if line.strip().lower() == "@data") + 1
    except StopIteration:
        raise BadInput(f"{path}: no line '@data', so no .ts file; {mend}") from None
    rows = [(number, line) for number, line in enumerate(lines[start:], start + 1) if line.strip()]
    series = np.zeros((len(rows), FRAMES, COEFFICIENTS), np.float32)
    labels = np.zeros(len(rows), np.int32)
    for row, (number, line) in enumerate(rows):
        *dimensions, label = line.split(":")
        try:
            values = np.array([dimension.split(",") for dimension in dimensions], np.float32)
            labels[row] = int(label) - 1
        except ValueError as error:
            raise BadInput(f"{path}: line {number}: {error}; {mend}") from error
        fits = values.ndim == 2 and values.shape[0] == COEFFICIENTS and values.shape[1] <= FRAMES
        if not fits or not 0 <= labels[row] < len(CLASSES) or not np.isfinite(values).all():
            raise BadInput(
                f"{path}: line {number}: not {COEFFICIENTS} dimensions of up to {FRAMES} numbers and a class of "
                f"1..{len(CLASSES)}; {mend}"
            )
        series[row, : values.shape[1]] = values.T
    return series, labels
