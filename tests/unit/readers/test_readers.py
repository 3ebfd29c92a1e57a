"""Data readers: good data arrives whole, bad data is refused in one line that says what was found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tfq_pipeline.data import Batch, Data, InputSpec
from tfq_pipeline.errors import BadInput
from tfq_pipeline.readers import open_data, require

SPECS = (InputSpec("image", (4, 4, 1)),)
TWO = (InputSpec("left", (3,)), InputSpec("right", (2,), "int32"))
X = np.linspace(0, 1, 160, dtype=np.float32).reshape(10, 4, 4, 1)
Y = np.arange(10)


def gathered(data: Data) -> tuple[np.ndarray, np.ndarray | None]:
    """All samples of the first input, and all labels."""
    batches = list(data)
    labels = [batch.labels for batch in batches if batch.labels is not None]
    return np.concatenate([batch.inputs[0] for batch in batches]), np.concatenate(labels) if labels else None


def test_npz_arrives_whole_and_in_order_to_measure_on_only(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    x, tested = gathered(open_data(tmp_path / "d.npz", SPECS, "test", True, 4))
    np.testing.assert_array_equal(tested, Y)
    np.testing.assert_array_equal(x, X)
    x, trained = gathered(open_data(tmp_path / "d.npz", SPECS, "train", True, 4))
    np.testing.assert_array_equal(np.sort(trained), Y)
    assert not np.array_equal(trained, Y)
    np.testing.assert_array_equal(x, X[trained])  # each label stays with its image


def test_the_seed_orders_training_data() -> None:
    def order(seed: int) -> list[int]:
        return gathered(open_data({"x": X, "y": Y}, SPECS, "train", True, seed=seed))[1].tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)


def _batches() -> Iterator[Any]:
    for start in range(0, 10, 4):
        yield X[start : start + 4], Y[start : start + 4]


FORMS: dict[str, Callable[[], Any]] = {
    "dict of arrays": lambda: {"image": X, "y": Y},
    "dict with x": lambda: {"x": X, "y": Y},
    "list of pairs": lambda: list(_batches()),
    "iterator of pairs": _batches,
    "batches as dicts": lambda: [{"image": x, "y": y} for x, y in _batches()],
    "pairs with dicts": lambda: [({"image": x}, y) for x, y in _batches()],
    "pairs with tuples": lambda: [((x,), y) for x, y in _batches()],
    "our own batches": lambda: [Batch((x,), y) for x, y in _batches()],
}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_python_data_in_every_form_can_be_read_twice(make: Callable[[], Any]) -> None:
    data = open_data(make(), SPECS, "test", True, 4)
    for _ in range(2):
        x, y = gathered(data)
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(y, Y)


def test_several_inputs_are_found_by_their_names(tmp_path: Path) -> None:
    left, right = np.ones((6, 3), np.float64), np.arange(12).reshape(6, 2)
    np.savez(tmp_path / "d.npz", right=right, left=left)
    (batch,) = open_data(tmp_path / "d.npz", TWO, "test", False)
    assert [x.dtype.name for x in batch.inputs] == ["float32", "int32"]
    np.testing.assert_array_equal(batch.inputs[1], right)
    assert batch.labels is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X[..., 0], "y": Y}, r"shape \[\?, 4, 4\], the model expects \[\?, 4, 4, 1\]"),
        ({"x": np.where(X > 0.99, np.nan, X), "y": Y}, "NaN and 0 infinite values, first in sample 9"),
        ({"x": np.where(X < 0.1, -np.inf, X), "y": Y}, "0 NaN and 16 infinite values, first in sample 0"),
        ({"x": X, "y": Y[:5]}, "image 10, y 5"),
        ({"x": X, "y": -Y}, "label of sample 9 is -9"),
        ({"x": X, "y": np.where(Y == 7, np.nan, Y)}, "the label of sample 7 is not finite"),
        ({"x": X, "y": Y.astype(str)}, "labels are of type <U"),
        ({"x": X}, "no labels"),
        ({"z": X}, r"no array for input 'image' \(found: z\)"),
        ({}, r"no array for input 'image' \(found: none\)"),
        ({"x": X[:0], "y": Y[:0]}, "no samples"),
        ({"x": X.astype(str), "y": Y}, "of type <U"),
        ({"x": np.float32(3), "y": Y}, r"arrays of different lengths \(image 0, y 10\)"),
    ],
)
def test_bad_arrays(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(BadInput, match=message):
        open_data(tmp_path / "d.npz", SPECS, "test", True)


def test_integer_inputs_take_no_fractions() -> None:
    with pytest.raises(BadInput, match="input 'right' is of type float64, the model expects int32; convert it"):
        open_data({"left": np.ones((2, 3)), "right": np.ones((2, 2))}, TWO, "calibration", False)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "whole.npz", x=X)
    data = bytearray((tmp_path / "whole.npz").read_bytes())
    data[200:260] = b"\xff" * 60
    (tmp_path / "scrambled.npz").write_bytes(data)
    np.savez_compressed(tmp_path / "packed.npz", x=np.random.default_rng(0).uniform(size=400))
    data = bytearray((tmp_path / "packed.npz").read_bytes())
    data[60:120] = b"\xff" * 60
    (tmp_path / "packed.npz").write_bytes(data)
    np.savez(tmp_path / "objects.npz", x=np.array([{}], object))
    for name, message in (
        ("text.npz", "text.npz: is damaged or no .npz; write it again"),
        ("scrambled.npz", r"scrambled.npz: cannot be read as .npz \(Bad CRC-32"),
        ("packed.npz", r"packed.npz: cannot be read as .npz \(Error -3 while decompressing"),
        ("objects.npz", r"objects.npz: cannot be read as .npz \(Object arrays cannot be loaded"),
        ("none.npz", "none.npz: no such file; give an .npz"),
        ("none", "none: no such file, folder or data set; give .npz, a folder of images, or one of: digits, fashion"),
    ):
        with pytest.raises(BadInput, match=message):
            open_data(tmp_path / name, SPECS, "test", True)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Class folders "a" and "b" with two pictures of 8 x 8 each, of one grey that differs by picture."""
    for i, name in enumerate(("a", "b")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for j in range(2):
            grey = Image.new("L", (8, 8), 50 * (2 * i + j))
            grey.save(tmp_path / "pictures" / name / f"{j}.png")
    return tmp_path / "pictures"


def test_folders_of_images_are_resized_scaled_and_labelled(pictures: Path) -> None:
    (pictures / "a" / "notes.txt").write_text("no picture")
    x, y = gathered(open_data(pictures, SPECS, "test", True))
    np.testing.assert_array_equal(y, [0, 0, 1, 1])
    np.testing.assert_allclose(x[:, 1, 2, 0], np.array([0, 50, 100, 150]) / 255, atol=1e-6)
    assert x.shape == (4, 4, 4, 1)
    assert x.dtype == np.float32
    colour, _ = gathered(open_data(pictures, (InputSpec("image", (8, 8, 3)),), "test", True))
    assert colour.shape == (4, 8, 8, 3)
    whole, _ = gathered(open_data(pictures, (InputSpec("image", (8, 8, 1), "uint8"),), "test", True))
    np.testing.assert_array_equal(whole[:, 0, 0, 0], [0, 50, 100, 150])


def test_plain_images_calibrate_but_have_no_labels(pictures: Path) -> None:
    x, y = gathered(open_data(pictures / "b", SPECS, "calibration", False))
    assert (len(x), y) == (2, None)
    with pytest.raises(BadInput, match="no images in class folders"):
        open_data(pictures / "b", SPECS, "test", True)


def test_folders_that_cannot_be_read(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="empty: the folder is empty; give one with path/CLASS/IMAGE files"):
        open_data(tmp_path / "empty", SPECS, "test", True)
    # Before the data that are missing beside it are asked for.
    with pytest.raises(BadInput, match="empty: the folder is empty"):
        require({"calibration": "calibrate"}, data=os.fspath(tmp_path / "empty"))
    with pytest.raises(BadInput, match=r"images fit one input .*, the model has 'left' \[3\], 'right' \[2\]; give an"):
        open_data(pictures, TWO, "test", True)
    with pytest.raises(BadInput, match=r"input 'image' has no fixed size \[\?, \?, 3\]"):
        open_data(pictures, (InputSpec("image", (None, None, 3)),), "test", True)
    whole = (pictures / "b" / "1.png").read_bytes()
    for content in (b"hello", whole[: len(whole) // 2]):
        (pictures / "b" / "1.png").write_bytes(content)
        with pytest.raises(BadInput, match=r"b/1\.png: cannot be read as an image .*; mend or remove it"):
            gathered(open_data(pictures, SPECS, "test", True, batch_size=1))


FUNCTIONS = """
import numpy as np

def good():
    for i in range(2):
        yield np.full((3, 4, 4, 1), i, "float32"), np.full(3, i)

def late():
    yield np.zeros((3, 4, 4, 1), "float32"), np.zeros(3, int)
    yield np.zeros((3, 4, 4), "float32"), np.zeros(3, int)

def broken():
    yield np.zeros((3, 4, 4, 1), "float32"), np.zeros(3, int)
    raise KeyError("lost")

def three():
    yield 1, 2, 3

def number():
    return 5

def nothing():
    return []

value = 5
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module in the working folder."""
    (tmp_path / "readers_functions.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    return "readers_functions"


def test_functions_are_called_anew_for_each_pass(functions: str) -> None:
    data = open_data(f"{functions}:good", SPECS, "train", True)
    for _ in range(2):
        x, y = gathered(data)
        np.testing.assert_array_equal(y, [0, 0, 0, 1, 1, 1])
        np.testing.assert_array_equal(x[:, 0, 0, 0], y)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("late", r"input 'image' has shape \[\?, 4, 4\], the model expects"),
        ("broken", "raised KeyError: 'lost'; mend the function"),
        ("three", "batch 0 has 3 parts; yield x"),
        ("number", "returned a int; return an iterable of batches"),
        ("nothing", "holds no samples"),
        ("value", "is a int; name a function"),
        ("missing", "has no attribute 'missing'; name a function of the module"),
    ],
)
def test_functions_that_do_not_give_batches(functions: str, name: str, message: str) -> None:
    with pytest.raises(BadInput, match=f"{functions}:{name}.*{message}"):
        gathered(open_data(f"{functions}:{name}", SPECS, "test", True))


def test_a_function_of_no_module() -> None:
    with pytest.raises(BadInput, match="no_such_module:f: cannot be imported"):
        open_data("no_such_module:f", SPECS, "test", True)


def test_what_passes_need_is_asked_for_and_stands_in(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    file = str(tmp_path / "d.npz")
    both = {"calibration": "calibrate", "train": "qat"}
    assert require(both, data="fashion_mnist") == ("fashion_mnist", "fashion_mnist")
    assert require(both, train=file) == (None, file)
    assert require(both, X, X, X)[0] is X
    with pytest.raises(BadInput, match="pass 'calibrate' needs samples to calibrate with; give --calibration, or"):
        require({"calibration": "calibrate"}, data=file)
    with pytest.raises(BadInput, match="pass 'qat' needs labelled data to train on; give --train, or --data"):
        require(both, calibration=file)
    with pytest.raises(BadInput, match=r"none\.npz: no such file"):
        require({}, data="none.npz")
