"""Bad models and data: one line that names what and where and says what to do, and nothing left half-written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command import Command
from tests.nets import grey_images

RECIPE = "--recipe=static_wi4_ai8"


def _truncated(good: Path, to: Path) -> Path:
    path = to / "truncated.keras"
    path.write_bytes((good / "small.keras").read_bytes()[:2000])
    return path


def _scrambled(good: Path, to: Path) -> Path:
    """A whole zip whose weights do not have the checksum that it says."""
    data = bytearray((good / "small.keras").read_bytes())
    weights = data.index(b"\x89HDF")
    data[weights + 512 : weights + 576] = b"\xff" * 64
    path = to / "scrambled.keras"
    path.write_bytes(data)
    return path


def _text(good: Path, to: Path) -> Path:
    path = to / "text.keras"
    path.write_text("hello")
    return path


def _empty(good: Path, to: Path) -> Path:
    path = to / "empty.keras"
    path.touch()
    return path


def _folder(good: Path, to: Path) -> Path:
    path = to / "folder"
    path.mkdir()
    return path


MODELS: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "truncated": (_truncated, "truncated.keras: the zip archive is corrupt (File is not a zip file); save or copy"),
    "scrambled": (_scrambled, "scrambled.keras: the model cannot be loaded (BadZipFile: Bad CRC-32 for file"),
    "text": (_text, "text.keras: the file is corrupt: its first bytes are not those of a .keras file; save or copy"),
    "empty": (_empty, "empty.keras: the file is empty; want"),
    "folder": (_folder, "folder: not a SavedModel: it is empty; want"),
}


@pytest.mark.parametrize(("make", "said"), MODELS.values(), ids=MODELS)
def test_models_that_cannot_be_read(
    tfq: Command, good: Path, tmp_path: Path, make: Callable[[Path, Path], Path], said: str
) -> None:
    model, data = make(good, tmp_path), good / "data.npz"
    output = tmp_path / "out" / "model.tflite"
    output.parent.mkdir()
    assert said in tfq("quantize", model, RECIPE, f"--calibration={data}", f"--output={output}").error(2)
    assert said in tfq("evaluate", model, f"--data={data}").error(2)
    assert list(output.parent.iterdir()) == []


def _volume(layers: Any) -> Any:
    return layers.Conv3D(2, 3, name="volume"), (8, 8, 8, 1)


def _recurrent(layers: Any) -> Any:
    return layers.LSTM(3, name="recurrent"), (65, 4)


def _lambda(layers: Any) -> Any:
    return layers.Lambda(lambda x: 2 * x, name="twice"), (4,)


LAYERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "not quantizable": (
        _volume,
        "layer 'volume' (Conv3D): Conv3D has no integer operator, docs/importers.md lists what has; replace it, or",
    ),
    "recurrent": (
        _recurrent,
        "layer 'recurrent' (LSTM): is unrolled without masks, without states in or out, and over sequences of a",
    ),
    "not portable": (_lambda, "holds Python code for it, which is not run from a file; replace it by Keras layers or"),
}


@pytest.mark.parametrize(("make", "said"), LAYERS.values(), ids=LAYERS)
def test_layers_that_cannot_be_taken(tfq: Command, tmp_path: Path, make: Callable[[Any], Any], said: str) -> None:
    import keras

    layer, shape = make(keras.layers)
    x = keras.Input(shape)
    keras.Model(x, layer(x)).save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=np.zeros((2, *shape), np.float32))
    flags = (RECIPE, f"--calibration={tmp_path / 'data.npz'}", f"--output={tmp_path / 'out.tflite'}")
    assert said in tfq("quantize", tmp_path / "model.keras", *flags).error(2)
    assert not (tmp_path / "out.tflite").exists()


X, Y = grey_images(8)
DATA: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "shape": (
        {"x": X[..., 0], "y": Y},
        "input 'image' has shape [?, 12, 12], the model expects [?, 12, 12, 1]; reshape",
    ),
    "type": ({"x": X.astype(str), "y": Y}, "input 'image' is of type <U32, the model expects float32; convert it"),
    "nan": (
        {"x": np.where(np.isclose(X, X[3, 2, 2]), np.nan, X), "y": Y},
        "holds 1 NaN and 0 infinite values, first in sample 3",
    ),
    "empty": ({"x": X[:0], "y": Y[:0]}, "holds no samples; give at least one"),
    "name": ({"picture": X, "y": Y}, "no array for input 'image' (found: picture, y); name it 'image' or 'x'"),
}
LABELS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "none": ({"x": X}, "has no labels; add an array 'y', class folders, or yield (x, y)"),
    "range": ({"x": X, "y": np.full(8, 7)}, "is 7, the model has classes 0..3; correct it"),
    "negative": ({"x": X, "y": np.full(8, -1)}, "the label of sample 0 is -1; classes count from 0"),
    "number": ({"x": X, "y": Y[:5]}, "arrays of different lengths (image 8, y 5); give one entry a sample in each"),
    "one-hot": (
        {"x": X, "y": np.eye(4, dtype=np.int32)[Y]},
        "class labels of shape [?, 4] for outputs of shape [?, 4]",
    ),
}


@pytest.mark.parametrize(("arrays", "said"), DATA.values(), ids=DATA)
def test_data_that_do_not_fit(
    tfq: Command, good: Path, tmp_path: Path, arrays: dict[str, np.ndarray], said: str
) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    flags = (RECIPE, f"--output={tmp_path / 'out.tflite'}", f"--calibration={tmp_path / 'bad.npz'}")
    line = tfq("quantize", good / "small.keras", *flags).error(2)
    assert "bad.npz" in line
    assert said in line
    assert said in tfq("evaluate", good / "small.keras", f"--data={tmp_path / 'bad.npz'}").error(2)
    assert [file.name for file in tmp_path.iterdir()] == ["bad.npz"]


@pytest.mark.parametrize(("arrays", "said"), LABELS.values(), ids=LABELS)
def test_labels_that_do_not_fit(
    tfq: Command, good: Path, tmp_path: Path, arrays: dict[str, np.ndarray], said: str
) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    bad, calibration = tmp_path / "bad.npz", f"--calibration={good / 'data.npz'}"
    output = f"--output={tmp_path / 'out.tflite'}"
    for done in (
        tfq("evaluate", good / "small.keras", f"--data={bad}"),
        tfq("quantize", good / "small.keras", RECIPE, calibration, f"--data={bad}", output),
        tfq("quantize", good / "small.keras", "--recipe=qat_wi8_ai8", calibration, f"--train={bad}", output),
    ):
        line = done.error(2)
        assert "bad.npz" in line
        # Training data are shuffled, so that the number of a sample would say nothing.
        assert said.removeprefix("the label of sample 0 is") in line
    assert [file.name for file in tmp_path.iterdir()] == ["bad.npz"]


def test_bad_labels_are_found_before_the_passes_run(tfq: Command, good: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", x=X, y=np.full(8, 7))
    flags = (RECIPE, f"--calibration={good / 'data.npz'}", f"--data={tmp_path / 'bad.npz'}", f"--output={tmp_path}/o")
    assert "calibrate" not in tfq("quantize", good / "small.keras", *flags).err


def test_damaged_tflite_files_are_named(tfq: Command, good: Path, tmp_path: Path) -> None:
    cut, text = tmp_path / "cut.tflite", tmp_path / "text.tflite"
    text.write_text("hello")
    cut.write_bytes(b"\x1c\0\0\0TFL3" + bytes(range(100)))
    for path, said in ((cut, "damaged TFLite model"), (text, "not a TFLite model")):
        for verb in (["inspect"], ["benchmark"], ["evaluate", f"--data={good / 'data.npz'}"]):
            assert tfq(*verb, path).error(2).startswith(f"{path}: {said}")
