"""Built-in data sets: a name brings the three splits, where they came from and their checksums.

Each data set is a module that has NAME, CLASSES, ``arrays(split, root)`` and ``checksums(split, root)``;
BUILT_IN is the table of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np

from tfq_pipeline.data import Batch, Data, Order
from tfq_pipeline.datasets import digits, fashion_mnist, japanese_vowels
from tfq_pipeline.errors import BadInput

SPLITS = ("train", "calibration", "test")
BUILT_IN: dict[str, ModuleType] = {module.NAME: module for module in (fashion_mnist, digits, japanese_vowels)}


def load(name: str, split: str, batch_size: int = 64, order: Order | None = None, root: Path | None = None) -> Data:
    """A split of a built-in data set as batches.

    Args:
        name: a key of BUILT_IN.
        split: "train", "calibration" or "test".
        batch_size: samples a batch; the last one holds the rest.
        order: of the samples; file order if not given.
        root: folder to read from instead of the usual one.

    Raises:
        BadInput: an unknown name or split, or files that are missing or damaged.
    """
    if name not in BUILT_IN:
        raise BadInput(f"data set '{name}': unknown; the built-in ones are {', '.join(sorted(BUILT_IN))}")
    if split not in SPLITS:
        raise BadInput(f"data set '{name}': no split '{split}'; it has {', '.join(SPLITS)}")
    module = BUILT_IN[name]
    samples, labels = module.arrays(split, root)
    provenance: dict[str, object] = {
        "name": name,
        "split": split,
        "samples": len(samples),
        "classes": len(module.CLASSES),
        "sha256": module.checksums(split, root),
    }
    return in_memory(name, (samples,), labels, batch_size, order, provenance)


def in_memory(
    name: str,
    inputs: tuple[np.ndarray, ...],
    labels: np.ndarray | None,
    batch_size: int,
    order: Order | None,
    provenance: dict[str, object],
) -> Data:
    """Arrays [n, ...] as data; `order` says which samples come when, None leaves them as they lie."""
    if order is None:
        return Data(name, partial(batches, inputs, labels, batch_size), len(inputs[0]), provenance)

    def shuffled(epoch: int) -> Iterator[Batch]:
        return batches(inputs, labels, batch_size, order(len(inputs[0]), epoch))

    return Data(name, partial(shuffled, 0), len(inputs[0]), provenance, shuffled)


def batches(
    inputs: tuple[np.ndarray, ...], labels: np.ndarray | None, batch_size: int, numbers: np.ndarray | None = None
) -> Iterator[Batch]:
    """Cuts arrays [n, ...] into batches, in the order of `numbers` where given."""
    total = len(inputs[0])
    for start in range(0, total, batch_size):
        part = slice(start, start + batch_size) if numbers is None else numbers[start : start + batch_size]
        yield Batch(tuple(x[part] for x in inputs), None if labels is None else labels[part])
