"""Readers of data: what a user names becomes a stream of checked batches.

A name of a built-in data set, an ``.npz`` file, a folder of images in class folders, ``package.module:function``, or in
Python arrays and iterables of batches. Every sample is checked against what the model expects.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfq_pipeline import datasets
from tfq_pipeline.data import Batch, Data, InputSpec, Order, random_order
from tfq_pipeline.errors import BadInput, TfqError

Split = Literal["train", "calibration", "test"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_FUNCTION = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")
_LABELS = "y"


def is_builtin(spec: str) -> bool:
    """Whether this is the name of a built-in data set, which brings all three splits."""
    return spec in datasets.BUILT_IN


# What each kind of data is for, as errors say it.
_PURPOSES = {"calibration": "samples to calibrate with", "train": "labelled data to train on"}


def require(needs: Mapping[str, str], calibration: Any = None, data: Any = None, train: Any = None) -> tuple[Any, Any]:
    """Looks whether the data of a run are there: cheap, so that it can come before a model is loaded.

    Args:
        needs: names of data that the passes of the recipe read, with the pass; see `recipe.Recipe.needs`.
        calibration, data, train: as `open_data` takes them, None where not given. A built-in data set as `data` stands
            for the two others as well, and `train` for `calibration`.

    Returns:
        The data to calibrate with and to train on; the first is None where the second serves.

    Raises:
        BadInput: data that a pass reads were not given, or there is no such file, folder or data set.
    """
    for source in (calibration, data, train):
        if isinstance(source, str | os.PathLike):
            _kind(os.fspath(source))
    if isinstance(data, str) and is_builtin(data):
        calibration = data if calibration is None else calibration
        train = data if train is None else train
    given = {"calibration": train if calibration is None else calibration, "train": train}
    for name, reader in needs.items():
        if given[name] is None:
            needed = f"the recipe's pass '{reader}' needs {_PURPOSES[name]}"
            raise BadInput(f"{needed}; give --{name}, or --data with a built-in data set")
    return calibration, train


def open_data(
    spec: Any,
    inputs: Sequence[InputSpec],
    split: Split,
    labels: bool,
    batch_size: int = 64,
    seed: int = 0,
) -> Data:
    """Opens data for a model and checks it: all of it where it lies in memory, else one batch now and the rest as read.

    Args:
        spec: name of a built-in data set; path of an ``.npz`` (arrays named after the inputs, or ``x``, and ``y``) or
            of a folder of class folders of images (read as the first input's size and channels, in 0..1; plain images
            where no labels are asked for); ``package.module:function`` that returns an iterable of batches. In Python
            also an array, a dict of arrays as in an ``.npz``, or an iterable of batches.
            A batch is x, (x,), (x, y) or a dict.
        inputs: what the model expects.
        split: of a built-in data set. "test" comes as it lies there; "train" and "calibration", where the data can be
            read in any order, shuffled: the first samples of a folder of classes would be those of one class.
        labels: whether labels have to be there; where not, they are dropped.
        batch_size: of arrays and images.
        seed: of the order.

    Raises:
        BadInput: data that is missing, damaged, empty, of another shape or type, not finite, or without labels.
    """
    inputs = tuple(inputs)
    order = None if split == "test" else random_order(seed)
    if isinstance(spec, str | os.PathLike):
        data = _named(os.fspath(spec), inputs, split, labels, batch_size, order)
    else:
        data = _in_memory(spec, inputs, labels, batch_size, order)
    first = next(iter(data), None)
    if first is None or len(first) == 0:
        raise BadInput(f"{data.name}: holds no samples; give at least one")
    return data


def _named(
    spec: str,
    inputs: tuple[InputSpec, ...],
    split: Split,
    labels: bool,
    batch_size: int,
    order: Order | None,
) -> Data:
    kind = _kind(spec)
    if kind == "built_in":
        return _checked(datasets.load(spec, split, batch_size, order), inputs, labels, already_finite=True)
    if kind == "function":
        return _function(spec, inputs, labels)
    path = Path(spec)
    if kind == "folder":
        return _checked(_folder(path, inputs, labels, batch_size, order), inputs, labels, already_finite=True)
    arrays = _read_npz(path)
    provenance: dict[str, object] = {"path": spec, "sha256": _sha256(path)}
    return _arrays(spec, arrays, inputs, labels, batch_size, order, provenance)


def _kind(spec: str) -> Literal["built_in", "folder", "npz", "function"]:
    path = Path(spec)
    if is_builtin(spec):
        return "built_in"
    if path.is_dir():
        if next(path.iterdir(), None) is None:
            raise BadInput(f"{spec}: the folder is empty; give one with path/CLASS/IMAGE files")
        return "folder"
    if path.is_file() and path.suffix == ".npz":
        return "npz"
    if path.exists():
        raise BadInput(f"{spec}: is neither .npz nor a folder; give one of them, or package.module:function")
    if path.suffix == ".npz":
        raise BadInput(f"{spec}: no such file; give an .npz with arrays named after the inputs, or x and y")
    if _FUNCTION.match(spec):
        return "function"
    known = ", ".join(sorted(datasets.BUILT_IN))
    raise BadInput(f"{spec}: no such file, folder or data set; give .npz, a folder of images, or one of: {known}")


def _in_memory(source: Any, inputs: tuple[InputSpec, ...], labels: bool, batch_size: int, order: Order | None) -> Data:
    if isinstance(source, np.ndarray):
        source = {inputs[0].name: source}
    if isinstance(source, Mapping):
        named = {str(name): np.asarray(array) for name, array in source.items()}
        return _arrays("the arrays", named, inputs, labels, batch_size, order, {"source": "arrays"})
    if not isinstance(source, Iterable):
        raise BadInput(f"data: a {type(source).__name__} is no data; give a path, arrays, or an iterable of batches")
    # An iterator is spent after one pass, and calibration, training and measuring need more.
    batches = list(source) if iter(source) is source else source
    name = f"the {type(source).__name__} of batches"
    opener = partial(_batches_of, batches, name, inputs)
    return _checked(Data(name, opener, None, {"source": type(source).__name__}), inputs, labels)


def _function(spec: str, inputs: tuple[InputSpec, ...], labels: bool) -> Data:
    module_name, _, function_name = spec.partition(":")
    try:
        with _current_folder_importable():
            function: Any = importlib.import_module(module_name)
        for part in function_name.split("."):
            function = getattr(function, part)
    except ImportError as error:
        raise BadInput(
            f"{spec}: cannot be imported ({error}); give package.module:function that Python finds"
        ) from error
    except AttributeError as error:
        raise BadInput(f"{spec}: {error}; name a function of the module {module_name}") from error
    if not callable(function):
        raise BadInput(f"{spec}: is a {type(function).__name__}; name a function that returns an iterable of batches")

    def fresh() -> Iterator[Batch]:
        try:
            produced = function()
            if not isinstance(produced, Iterable):
                raise BadInput(f"{spec}: returned a {type(produced).__name__}; return an iterable of batches")
            yield from _batches_of(produced, spec, inputs)
        except TfqError:
            raise
        except Exception as error:  # whatever the user's own code raises
            first = (str(error).splitlines() or ["no message"])[0]
            raise BadInput(f"{spec}: raised {type(error).__name__}: {first}; mend the function") from error

    return _checked(Data(spec, fresh, None, {"function": spec}), inputs, labels)


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """A console script does not look for modules in the current folder; what a user names there should be found."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _batches_of(produced: Iterable[Any], name: str, inputs: tuple[InputSpec, ...]) -> Iterator[Batch]:
    """Whatever a user's iterable yields, as batches."""
    for i, item in enumerate(produced):
        if isinstance(item, Batch):
            yield item
            continue
        if isinstance(item, Mapping):
            arrays = {str(key): np.asarray(value) for key, value in item.items()}
            yield Batch(_inputs_of(arrays, inputs, f"{name}, batch {i}"), arrays.get(_LABELS))
            continue
        parts = tuple(item) if isinstance(item, tuple | list) else (item,)
        x, y = (parts[0], parts[1]) if len(parts) == 2 else (parts[0] if len(parts) == 1 else None, None)
        if x is None:
            raise BadInput(f"{name}: batch {i} has {len(parts)} parts; yield x, (x,), (x, y) or a dict of arrays")
        if isinstance(x, Mapping):
            columns = _inputs_of({str(k): np.asarray(v) for k, v in x.items()}, inputs, f"{name}, batch {i}")
        else:
            columns = tuple(np.asarray(c) for c in x) if isinstance(x, tuple | list) else (np.asarray(x),)
        yield Batch(columns, None if y is None else np.asarray(y))


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise BadInput(f"{path}: is damaged or no .npz; write it again with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{path}: cannot be read as .npz ({first}); write it again with numpy.savez") from error


def _arrays(
    name: str,
    arrays: Mapping[str, np.ndarray],
    inputs: tuple[InputSpec, ...],
    labels: bool,
    batch_size: int,
    order: Order | None,
    provenance: dict[str, object],
) -> Data:
    columns = _inputs_of(arrays, inputs, name)
    y = arrays.get(_LABELS)
    lengths = {spec.name: len(x) if x.ndim else 0 for spec, x in zip(inputs, columns, strict=True)}
    if y is not None and labels:
        lengths[_LABELS] = len(y) if y.ndim else 0
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{key} {n}" for key, n in lengths.items())
        raise BadInput(f"{name}: arrays of different lengths ({found}); give one entry a sample in each")
    total = next(iter(lengths.values()))
    data = datasets.in_memory(name, columns, y if labels else None, batch_size, order, {**provenance, "samples": total})
    data = _checked(data, inputs, labels)
    for _ in _checked(
        Data(name, partial(datasets.batches, columns, y if labels else None, batch_size)), inputs, labels
    ):
        pass  # reading it once finds what is wrong before hours of work
    return data


def _inputs_of(arrays: Mapping[str, np.ndarray], inputs: tuple[InputSpec, ...], name: str) -> tuple[np.ndarray, ...]:
    """The arrays of the inputs, by their names, or ``x`` for a single one."""
    if all(spec.name in arrays for spec in inputs):
        return tuple(arrays[spec.name] for spec in inputs)
    if len(inputs) == 1 and "x" in arrays:
        return (arrays["x"],)
    missing = next(spec.name for spec in inputs if spec.name not in arrays)
    alternative = " or 'x'" if len(inputs) == 1 else ""
    found = ", ".join(arrays) or "none"
    raise BadInput(f"{name}: no array for input '{missing}' (found: {found}); name it '{missing}'{alternative}")


def _folder(path: Path, inputs: tuple[InputSpec, ...], labels: bool, batch_size: int, order: Order | None) -> Data:
    if len(inputs) != 1 or len(inputs[0].shape) != 3 or inputs[0].shape[2] not in (1, 3):
        shapes = ", ".join(f"'{spec.name}' {_shape(spec.shape)}" for spec in inputs)
        raise BadInput(
            f"{path}: images fit one input [height, width, 1 or 3], the model has {shapes}; give an .npz instead"
        )
    spec = inputs[0]
    if None in spec.shape:
        raise BadInput(
            f"{path}: input '{spec.name}' has no fixed size {_shape(spec.shape)}; give an .npz with images of one size"
        )
    classes = sorted(d.name for d in path.iterdir() if d.is_dir() and not d.name.startswith("."))
    files = [(f, i) for i, name in enumerate(classes) for f in _images(path / name)]
    if not files and not labels:
        files = [(f, -1) for f in _images(path)]
    if not files:
        raise BadInput(f"{path}: no images in class folders ({', '.join(IMAGE_SUFFIXES)}); give path/CLASS/IMAGE files")

    def read(epoch: int = 0) -> Iterator[Batch]:
        numbers = np.arange(len(files)) if order is None else order(len(files), epoch)
        for start in range(0, len(files), batch_size):
            chosen = [files[i] for i in numbers[start : start + batch_size]]
            images = np.stack([_image(file, spec) for file, _ in chosen])
            yield Batch((images,), np.array([label for _, label in chosen], np.int32))

    provenance: dict[str, object] = {"path": str(path), "samples": len(files), "classes": len(classes)}
    return Data(str(path), read, len(files), provenance, None if order is None else read)


def _images(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)


def _image(file: Path, spec: InputSpec) -> np.ndarray:
    """One image [height, width, channels] in the input's size: 0..1, or 0..255 where the input is of integers."""
    from PIL import Image, UnidentifiedImageError

    height, width, channels = spec.shape
    try:
        with Image.open(file) as image:
            sized = image.convert("L" if channels == 1 else "RGB")
            if sized.size != (width, height):
                sized = sized.resize((width or 0, height or 0), Image.Resampling.BILINEAR)
            pixels = np.asarray(sized).reshape(height or 0, width or 0, channels or 0)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BadInput(f"{file}: cannot be read as an image ({error}); mend or remove it") from error
    return pixels if np.dtype(spec.dtype).kind in "iu" else (pixels / np.float32(255)).astype(np.float32)


def _checked(data: Data, inputs: tuple[InputSpec, ...], labels: bool, already_finite: bool = False) -> Data:
    """The same stream, each batch checked and in the types that the model expects."""

    def stream(source: Data) -> Iterator[Batch]:
        start = 0
        for batch in source:
            checked = _check(batch, data.name, start, inputs, labels, already_finite)
            start += len(checked)
            yield checked

    reopen = None if data.reopen is None else lambda epoch: stream(data.epoch(epoch))
    return Data(data.name, partial(stream, data), data.samples, data.provenance, reopen)


def _check(
    batch: Batch, name: str, start: int, inputs: tuple[InputSpec, ...], labels: bool, already_finite: bool
) -> Batch:
    if len(batch.inputs) != len(inputs):
        wanted = ", ".join(f"'{spec.name}'" for spec in inputs)
        raise BadInput(f"{name}: {len(batch.inputs)} arrays where the model has {len(inputs)} inputs; give {wanted}")
    columns = tuple(
        _check_input(x, spec, name, start, already_finite) for x, spec in zip(batch.inputs, inputs, strict=True)
    )
    sizes = {len(x) for x in columns}
    if len(sizes) > 1:
        raise BadInput(
            f"{name}: inputs of {' and '.join(map(str, sorted(sizes)))} samples in one batch; give as many of each"
        )
    return Batch(columns, _check_labels(batch.labels, len(columns[0]), name, start) if labels else None)


def _check_input(x: np.ndarray, spec: InputSpec, name: str, start: int, already_finite: bool) -> np.ndarray:
    where, wanted = f"{name}: input '{spec.name}'", np.dtype(spec.dtype)
    fits = x.ndim == len(spec.shape) + 1 and all(w in (None, n) for w, n in zip(spec.shape, x.shape[1:], strict=True))
    if not fits:
        found, expected = _shape((None, *x.shape[1:])), _shape((None, *spec.shape))
        raise BadInput(f"{where} has shape {found}, the model expects {expected}; reshape it")
    numeric = x.dtype.kind in "iuf" or x.dtype.kind == "b"
    if not numeric or (wanted.kind in "iu" and x.dtype.kind == "f"):
        raise BadInput(f"{where} is of type {x.dtype}, the model expects {wanted}; convert it")
    if x.dtype.kind == "f" and not already_finite and not np.isfinite(x).all():
        nan, infinite = int(np.isnan(x).sum()), int(np.isinf(x).sum())
        bad = start + int(np.argmin(np.isfinite(x).reshape(len(x), -1).all(axis=1)))
        raise BadInput(f"{where} holds {nan} NaN and {infinite} infinite values, first in sample {bad}; clean the data")
    return x.astype(wanted, copy=False)


def _check_labels(y: np.ndarray | None, samples: int, name: str, start: int) -> np.ndarray:
    if y is None:
        raise BadInput(f"{name}: has no labels; add an array 'y', class folders, or yield (x, y)")
    if y.ndim == 0 or len(y) != samples:
        raise BadInput(
            f"{name}: {y.size if y.ndim == 0 else len(y)} labels for {samples} samples; give one label a sample"
        )
    if y.dtype.kind not in "iuf":
        raise BadInput(f"{name}: labels are of type {y.dtype}; give class numbers from 0, or floats for regression")
    if y.ndim == 2 and y.shape[1] == 1 and y.dtype.kind != "f":
        y = y[:, 0]
    if y.dtype.kind == "f":
        if not np.isfinite(y).all():
            bad = start + int(np.argmin(np.isfinite(y).reshape(len(y), -1).all(axis=1)))
            raise BadInput(f"{name}: the label of sample {bad} is not finite; clean the data")
        return y.astype(np.float32, copy=False)
    if y.size and y.min() < 0:
        bad = start + int(np.argmin(y.reshape(len(y), -1).min(axis=1)))
        raise BadInput(f"{name}: the label of sample {bad} is {int(y.min())}; classes count from 0")
    return y.astype(np.int32, copy=False)


def _shape(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("?" if n is None else str(n) for n in shape) + "]"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
