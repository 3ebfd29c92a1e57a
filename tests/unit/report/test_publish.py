"""A run folder is whole or not there, and a run that cannot be shown is named."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tfq_pipeline import report
from tfq_pipeline.errors import BadInput
from tfq_pipeline.tflite.flatbuffer import write_file

WEIGHT = {
    "tensor": "t", "layer": "conv<b>", "op": "CONV_2D", "shape": [8, 3, 3, 1], "bits": 4, "scheme": "uniform",
    "granularity": "channel", "group_size": None, "bytes": 36,
}  # fmt: skip
DOCUMENT: dict[str, Any] = {
    "output": "m.tflite",
    "model": "m.keras",
    "recipe": "mine",
    "seed": 3,
    "passes": [{"name": "convert", "seconds": 1.5}],
    "inspect": {
        "size_bytes": 1234, "float_size_bytes": 4321, "compression_ratio": 3.5016, "ops": {"CONV_2D": 1},
        "unfolded_batch_norms": 0, "float_ops": 0, "weights": [WEIGHT],
    },
    "verification": {"samples": 10, "max_abs_error_lsb": 1.0, "argmax_agreement": 0.9},
    "data": {"test": {"path": "d.npz", "sha256": "abc", "samples": 10}},
    "metrics": {"float": {"accuracy": 0.9123}, "quantized": {"accuracy": 0.9021}, "accuracy_drop": 1.02},
}  # fmt: skip


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A file that grows beyond `size` bytes fails, as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_folder_is_made_filled_and_filled_again(tmp_path: Path) -> None:
    page = report.publish(tmp_path / "a" / "run", DOCUMENT)
    text = page.read_text("utf-8")
    for said in ("1,234", "0.286", "91.23 %", "90.21 %", "1.02", "conv&lt;b&gt;", "seed"):
        assert said in text, said
    (page.parent / "mine.txt").write_text("stays")
    report.publish(page.parent, {**DOCUMENT, "recipe": "other"})
    assert "other" in page.read_text("utf-8")
    assert sorted(file.name for file in page.parent.iterdir()) == ["mine.txt", "report.html", "run.json"]
    assert json.loads((page.parent / "run.json").read_text("utf-8"))["recipe"] == "other"


def test_outliers_are_listed_the_furthest_first(tmp_path: Path) -> None:
    entry = {"tensor": "a/near", "kind": "weights", "peak": 1.25, "kurtosis": 3.04, "channels": []}
    far = {"tensor": "a/far", "kind": "activations", "peak": 9.876, "kurtosis": 44.44}
    far["channels"] = [{"channel": 7, "ratio": 12.34}, {"channel": 2, "ratio": 4.56}]
    text = report.publish(tmp_path, {**DOCUMENT, "outliers": [entry, far]}).read_text("utf-8")
    rows = re.findall(r"<tr><th>(near|far)</th>(.*?)</tr>", text)
    assert [name for name, _ in rows] == ["far", "near"]
    for said in ("activations", "9.88", "44.4", "7 (12.3x), 2 (4.6x)"):
        assert said in rows[0][1], said


def test_nothing_is_left_where_there_is_no_room(tmp_path: Path) -> None:
    # run.json still fits, the page does not.
    with files_of_at_most(4000), pytest.raises(BadInput, match=r"run: cannot be written to \(File too large\); choose"):
        report.publish(tmp_path / "run", DOCUMENT)
    assert list(tmp_path.iterdir()) == []
    report.publish(tmp_path / "run", DOCUMENT)
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    with files_of_at_most(4000), pytest.raises(BadInput, match="cannot be written to"):
        report.publish(tmp_path / "run", {**DOCUMENT, "recipe": "other"})
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before


def test_a_model_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model.tflite"
    target.write_bytes(b"old")
    with files_of_at_most(4000), pytest.raises(BadInput, match=r"model.tflite: cannot be written \(File too large\)"):
        write_file(target, bytes(5000))
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("model.tflite", b"old")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as a run"),
        ("[]", "is no run; give a folder that 'tfq quantize --report' wrote"),
        ('{"runs": []}', "is no run"),
        ('{"recipe": "x"}', r"is no whole run \(KeyError: 'inspect'\)"),
        (json.dumps({**DOCUMENT, "inspect": {**DOCUMENT["inspect"], "weights": 5}}), r"is no whole run \(TypeError"),
    ],
)
def test_runs_that_cannot_be_shown(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(BadInput, match=f"run.json: {message}"):
        report.render(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="file/run: cannot be written to"):
        report.publish(tmp_path / "file" / "run", DOCUMENT)


def test_learned_bits_are_drawn_over_the_steps() -> None:
    learned = {
        "name": "learn_bits",
        "seconds": 2.0,
        "bits": {"conv": 3, "dense": 8},
        "budget": {"bits": 0.85},
        "kilobytes": {"at their bits": [4.0, 3.25], "in the file": [4.0, 5.5]},
        "trajectory": {
            "step": [10.0, 20.0],
            "cost": [1.0, 0.85],
            "multiplier": [0.1, 0.2],
            "bits": {"conv": [4.0, 2.9], "dense": [4.0, 7.1]},
        },
    }
    made = report.pictures({**DOCUMENT, "passes": [learned]})["bits-learned-by-mine.svg"]
    ElementTree.fromstring(made)
    assert [text for text in re.findall(r">\s*([\w.]+)\s*</text>", made) if text in ("conv", "dense", "3", "8")] == [
        "conv",
        "dense",
        "3",
        "8",
    ]
    page = report.page.page({**DOCUMENT, "runs": [{**DOCUMENT, "passes": [learned]}]})
    assert "From 2.9 (foot of a row) to 7.1 bits" in page
    assert "bits held to 0.85 of the plan&#39;s" in page
    assert "in the file, which holds 2 and 3 bits as 4, from 4.0 to 5.5 kB" in page


def test_pictures_stand_alone() -> None:
    made = report.pictures(DOCUMENT)
    assert list(made) == ["accuracy-lost.svg", "file-size.svg", "bits-of-each-layer-s-weights.svg"]
    for picture in made.values():
        ElementTree.fromstring(picture)
        used, defined = set(re.findall(r"var\((--[\w-]+)\)", picture)), set(re.findall(r"(--[\w-]+):", picture))
        assert "--ink" in used
        assert used <= defined
    assert ">mine<" in made["accuracy-lost.svg"]
