"""Data readers: good data arrives whole, bad data is refused in one line that says what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfq_pipeline.data import InputSpec
from tfq_pipeline.errors import BadInput
from tfq_pipeline.readers import open_data

SPECS = (InputSpec("image", (4, 4, 1)),)
X = np.linspace(0, 1, 160, dtype=np.float32).reshape(10, 4, 4, 1)
Y = np.arange(10)


def test_npz_arrives_whole_and_shuffled_for_training_only(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    tested = np.concatenate([b.labels for b in open_data(tmp_path / "d.npz", SPECS, "test", True, 4)])
    trained = np.concatenate([b.labels for b in open_data(tmp_path / "d.npz", SPECS, "train", True, 4)])
    np.testing.assert_array_equal(tested, Y)
    np.testing.assert_array_equal(np.sort(trained), Y)
    assert not np.array_equal(trained, Y)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X[..., 0], "y": Y}, r"shape \[\?, 4, 4\], the model expects \[\?, 4, 4, 1\]"),
        ({"x": np.where(X > 0.99, np.nan, X), "y": Y}, "NaN and 0 infinite values, first in sample 9"),
        ({"x": X, "y": Y[:5]}, "image 10, y 5"),
        ({"x": X, "y": -Y}, "label of sample 9 is -9"),
        ({"x": X}, "no labels"),
        ({"z": X}, r"no array for input 'image' \(found: z\)"),
        ({"x": X[:0], "y": Y[:0]}, "no samples"),
        ({"x": X.astype(str), "y": Y}, "of type <U"),
    ],
)
def test_bad_arrays(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(BadInput, match=message):
        open_data(tmp_path / "d.npz", SPECS, "test", True)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_text("hello")
    with pytest.raises(BadInput, match="damaged"):
        open_data(tmp_path / "d.npz", SPECS, "test", True)
    with pytest.raises(BadInput, match="no such file"):
        open_data(tmp_path / "none.npz", SPECS, "test", True)
