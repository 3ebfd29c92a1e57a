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

from tfq_pipeline.data import Batch, Data
from tfq_pipeline.datasets import fashion_mnist
from tfq_pipeline.errors import BadInput

SPLITS = ("train", "calibration", "test")
BUILT_IN: dict[str, ModuleType] = {module.NAME: module for module in (fashion_mnist,)}


def load(name: str, split: str, batch_size: int = 64, seed: int = 0, root: Path | None = None) -> Data:
    """A split of a built-in data set as batches.

    Args:
        name: a key of BUILT_IN.
        split: "train" (each pass in a new order, given by the seed), "calibration" or "test" (in file order).
        batch_size: samples a batch; the last one holds the rest.
        seed: orders "train".
        root: folder to read from instead of the usual one.

    Raises:
        BadInput: an unknown name or split, or files that are missing or damaged.
    """
    if name not in BUILT_IN:
        raise BadInput(f"data set '{name}': unknown; the built-in ones are {', '.join(sorted(BUILT_IN))}")
    if split not in SPLITS:
        raise BadInput(f"data set '{name}': no split '{split}'; it has {', '.join(SPLITS)}")
    module = BUILT_IN[name]
    images, labels = module.arrays(split, root)
    provenance: dict[str, object] = {
        "name": name,
        "split": split,
        "samples": len(images),
        "classes": len(module.CLASSES),
        "sha256": module.checksums(split, root),
    }
    opener = partial(batches, (images,), labels, batch_size, np.random.default_rng(seed) if split == "train" else None)
    return Data(name, opener, len(images), provenance)


def batches(
    inputs: tuple[np.ndarray, ...], labels: np.ndarray | None, batch_size: int, rng: np.random.Generator | None = None
) -> Iterator[Batch]:
    """Cuts arrays [n, ...] into batches; a generator reorders them anew on each pass."""
    total = len(inputs[0])
    order = None if rng is None else rng.permutation(total)
    for start in range(0, total, batch_size):
        part = slice(start, start + batch_size) if order is None else order[start : start + batch_size]
        yield Batch(tuple(x[part] for x in inputs), None if labels is None else labels[part])
