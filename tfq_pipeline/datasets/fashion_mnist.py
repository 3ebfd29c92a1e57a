"""Fashion-MNIST (Xiao 2017): 60,000 training and 10,000 test images of clothes, 28 x 28 grey, ten classes.

Read from the gzipped idx files of Debian's package ``dataset-fashion-mnist``, else from where Keras downloads it.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfq_pipeline.errors import BadInput

NAME = "fashion_mnist"
CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CALIBRATION_SAMPLES = 1024
ROOT = Path("/usr/share/datasets/fashion-mnist")
PACKAGE = "dataset-fashion-mnist"

_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
_CALIBRATION_SEED = 20_170_825


def arrays(split: str, root: Path | None = None, hold_out: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """One split in memory.

    Args:
        split: "train", "calibration" (1,024 of the training images, the same ones every time) or "test".
        root: folder of the idx files; Debian's by default.
        hold_out: leave the calibration images out of "train".

    Returns:
        Images float32 [n, 28, 28, 1] in 0..1, labels int32 [n].

    Raises:
        BadInput: the files are missing or damaged and there is no network to fetch them from.
    """
    images, labels = _read("test" if split == "test" else "train", root)
    if split != "test" and (split == "calibration" or hold_out):
        held = calibration_indices(len(images))
        chosen = held if split == "calibration" else np.setdiff1d(np.arange(len(images)), held)
        images, labels = images[chosen], labels[chosen]
    return (images[..., np.newaxis] / np.float32(255)).astype(np.float32), labels.astype(np.int32)


def calibration_indices(total: int) -> np.ndarray:
    """Which training images calibrate: int64 [1024], without repetition."""
    return np.random.default_rng(_CALIBRATION_SEED).choice(total, min(CALIBRATION_SAMPLES, total), replace=False)


def checksums(split: str, root: Path | None = None) -> dict[str, str]:
    """SHA-256 by file of what the split was read from; empty where Keras keeps the files."""
    paths = _paths("test" if split == "test" else "train", root)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}


def _paths(part: str, root: Path | None) -> tuple[Path, Path]:
    images, labels = _FILES[part]
    folder = ROOT if root is None else root
    return folder / images, folder / labels


def _read(part: str, root: Path | None) -> tuple[np.ndarray, np.ndarray]:
    images, labels = _paths(part, root)
    if images.is_file() and labels.is_file():
        pair = _idx(images, 3), _idx(labels, 1)
        if len(pair[0]) != len(pair[1]):
            raise BadInput(f"{images}: {len(pair[0])} images but {len(pair[1])} labels; install {PACKAGE} again")
        return pair
    if root is not None:
        raise BadInput(f"{root}: no {images.name} and {labels.name} in it; name the folder that holds the idx files")
    return _download(part)


def _download(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Through Keras, which caches what it fetched."""
    import keras

    try:
        parts: Sequence[tuple[np.ndarray, np.ndarray]] = keras.datasets.fashion_mnist.load_data()
    # Keras wraps whatever went wrong on the network in a bare Exception.
    except Exception as error:
        raise BadInput(
            f"data set {NAME}: not under {ROOT}, and the download failed; run 'apt-get install {PACKAGE}'"
        ) from error
    return parts[0] if part == "train" else parts[1]


def _idx(path: Path, rank: int) -> np.ndarray:
    """The uint8 array of a gzipped idx file: a big-endian header (magic 0x0800 + rank, then the sizes), then bytes."""
    mend = f"install {PACKAGE} again"
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: cannot be read as gzip ({error}); {mend}") from error
    header = np.frombuffer(content[: 4 * (rank + 1)], ">u4")
    if len(header) != rank + 1 or header[0] != 0x0800 + rank:
        raise BadInput(f"{path}: not an idx file of {rank} dimensions; {mend}")
    shape = tuple(int(size) for size in header[1:])
    values = np.frombuffer(content, np.uint8, offset=4 * (rank + 1))
    if values.size != np.prod(shape):
        raise BadInput(f"{path}: {values.size} bytes where its header says {'x'.join(map(str, shape))}; {mend}")
    return values.reshape(shape)
