"""The built-in data set: read from idx files as they are specified, split without overlap, damaged files named."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from tfq_pipeline import datasets
from tfq_pipeline.data import random_order
from tfq_pipeline.datasets import fashion_mnist
from tfq_pipeline.errors import BadInput

RNG = np.random.default_rng(3)
FILES = {
    "train-images-idx3-ubyte.gz": RNG.integers(0, 256, (1500, 28, 28), dtype=np.uint8),
    "train-labels-idx1-ubyte.gz": RNG.integers(0, 10, 1500, dtype=np.uint8),
    "t10k-images-idx3-ubyte.gz": RNG.integers(0, 256, (30, 28, 28), dtype=np.uint8),
    "t10k-labels-idx1-ubyte.gz": RNG.integers(0, 10, 30, dtype=np.uint8),
}


def idx(values: np.ndarray) -> bytes:
    """The idx format: two zero bytes, 8 for unsigned bytes, the rank, the sizes big-endian, then the values."""
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(header + values.tobytes(), compresslevel=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, values in FILES.items():
        (tmp_path / name).write_bytes(idx(values))
    return tmp_path


def test_test_images_in_their_order(root: Path) -> None:
    data = datasets.load("fashion_mnist", "test", batch_size=8, root=root)
    batches = list(data)
    assert [len(batch) for batch in batches] == [8, 8, 8, 6]
    x = np.concatenate([batch.inputs[0] for batch in batches])
    assert (x.shape, x.dtype) == ((30, 28, 28, 1), np.float32)
    np.testing.assert_allclose(255 * x[..., 0], FILES["t10k-images-idx3-ubyte.gz"], atol=1e-4)
    labels = np.concatenate([batch.labels for batch in batches if batch.labels is not None])
    np.testing.assert_array_equal(labels, FILES["t10k-labels-idx1-ubyte.gz"])
    assert data.provenance["samples"] == 30
    assert set(data.provenance["sha256"]) == {"t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"}


def test_calibration_images_are_not_trained_on(root: Path) -> None:
    def keys(split: str) -> list[bytes]:
        return [x.tobytes() for x in fashion_mnist.arrays(split, root)[0]]

    calibration, train = keys("calibration"), keys("train")
    assert (len(calibration), len(train)) == (1024, 476)
    assert calibration == keys("calibration")
    assert not set(calibration) & set(train)


def test_training_order_follows_the_seed_and_changes_with_each_epoch(root: Path) -> None:
    def labels(seed: int, epoch: int) -> list[int]:
        data = datasets.load("fashion_mnist", "train", order=random_order(seed), root=root).epoch(epoch)
        return [int(y) for batch in data for y in batch.labels]

    first = labels(1, 0)
    assert labels(1, 0) == first
    assert sorted(labels(1, 1)) == sorted(labels(2, 0)) == sorted(first)
    assert labels(1, 1) != first
    assert labels(2, 0) != first


DAMAGE = {
    "text": (b"hello", "cannot be read as gzip"),
    "cut": (idx(FILES["t10k-images-idx3-ubyte.gz"])[:500], "cannot be read as gzip"),
    "scrambled": (b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\xff" * 50, "cannot be read as gzip"),
    "labels": (idx(FILES["t10k-labels-idx1-ubyte.gz"]), "not an idx file of 3 dimensions"),
    "short": (
        gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 30, 28, 28) + b"short"),
        "5 bytes where its header says",
    ),
    "fewer": (idx(FILES["t10k-images-idx3-ubyte.gz"][:7]), "7 images but 30 labels"),
}


@pytest.mark.parametrize(("content", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_named(root: Path, content: bytes, message: str) -> None:
    (root / "t10k-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(BadInput, match=f"t10k-images-idx3-ubyte.gz: {message}.*; install dataset-fashion-mnist again"):
        datasets.load("fashion_mnist", "test", root=root)


def test_unknown_names_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match="data set 'mnist': unknown; the built-in ones are digits, fashion_mnist, japanese_vowels"
    ):
        datasets.load("mnist", "test")
    with pytest.raises(BadInput, match="no split 'valid'; it has train, calibration, test"):
        datasets.load("fashion_mnist", "valid")
    with pytest.raises(BadInput, match=r"no t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz in it"):
        datasets.load("fashion_mnist", "test", root=tmp_path)
