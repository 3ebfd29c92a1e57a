"""Data sets that are files of packages: read as their formats are written, split without overlap, faults named."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tfq_pipeline import datasets
from tfq_pipeline.datasets import digits, japanese_vowels, packaged
from tfq_pipeline.errors import BadInput

RNG = np.random.default_rng(4)
GREYS, NAMES = RNG.integers(0, 17, (1030, 64)), RNG.integers(0, 10, 1030)


def table(rows: np.ndarray) -> bytes:
    return gzip.compress("".join(",".join(map(str, row)) + "\n" for row in rows).encode())


DIGITS = table(np.column_stack([GREYS, NAMES]))
LENGTHS = (7, 29, 12)
SERIES = [RNG.normal(size=(12, n)).round(4) for n in LENGTHS]


def ts(series: list[np.ndarray], labels: list[object]) -> str:
    rows = [
        ":".join([*(",".join(map(str, dimension)) for dimension in one), str(label)])
        for one, label in zip(series, labels, strict=True)
    ]
    return "\n".join(["# words", "@problemName JapaneseVowels", "@data", *rows, ""])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "digits.csv.gz").write_bytes(DIGITS)
    for part in ("TRAIN", "TEST"):
        (tmp_path / f"JapaneseVowels_{part}.ts").write_text(ts(SERIES, [1, 9, 4]))
    return tmp_path


def test_digits_after_the_first_thousand_are_for_tests(root: Path) -> None:
    images, labels = digits.arrays("test", root)
    assert (images.shape, images.dtype, labels.dtype) == ((30, 8, 8, 1), np.float32, np.int32)
    np.testing.assert_allclose(16 * images.reshape(30, 64), GREYS[1000:], atol=1e-5)
    np.testing.assert_array_equal(labels, NAMES[1000:])


def test_short_series_end_in_zeros(root: Path) -> None:
    series, labels = japanese_vowels.arrays("test", root)
    assert (series.shape, series.dtype, labels.tolist()) == ((3, 29, 12), np.float32, [0, 8, 3])
    for got, wanted in zip(series, SERIES, strict=True):
        np.testing.assert_allclose(got[: wanted.shape[1]], wanted.T, rtol=1e-6)
        assert not got[wanted.shape[1] :].any()


# Name, samples by split, classes, shape of a sample: what the literature says of these data sets.
REAL = {
    "digits": ((872, 128, 797), 10, (8, 8, 1)),
    "japanese_vowels": ((216, 54, 370), 9, (29, 12)),
}


@pytest.mark.parametrize("name", REAL)
def test_installed_files(name: str) -> None:
    samples, classes, shape = REAL[name]
    seen: set[bytes] = set()
    for split, count in zip(datasets.SPLITS, samples, strict=True):
        data = datasets.load(name, split, batch_size=4096)
        ((x,),) = [batch.inputs for batch in data]
        (y,) = [batch.labels for batch in data]
        assert (data.provenance["samples"], x.shape) == (count, (count, *shape))
        assert np.isfinite(x).all()
        assert sorted(set(y)) == list(range(classes))
        keys = {row.tobytes() for row in x}
        assert not keys & seen
        seen |= keys
        (digest,) = dict(data.provenance["sha256"]).values()
        assert len(digest) == 64
    # Every class of digits has about 180 images, of which class 8 the fewest (UCI's table of optdigits.tes).
    if name == "digits":
        _, labels = digits.arrays("train", hold_out=False)
        whole = np.concatenate([labels, digits.arrays("test")[1]])
        assert np.bincount(whole).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


DAMAGE = {
    "no gzip": (digits, "digits.csv.gz", b"1,2,3", "cannot be read as gzipped rows of numbers"),
    "cut": (digits, "digits.csv.gz", DIGITS[:900], "cannot be read as gzipped rows of numbers"),
    "words": (digits, "digits.csv.gz", gzip.compress(b"a,b\n"), "cannot be read as gzipped rows of numbers"),
    "ragged": (digits, "digits.csv.gz", gzip.compress(b"1,2\n3\n"), "cannot be read as gzipped rows of numbers"),
    "empty": (digits, "digits.csv.gz", gzip.compress(b""), "not rows of 65 numbers"),
    "narrow": (digits, "digits.csv.gz", table(np.ones((5, 9), int)), r"of shape \(5, 9\), not rows of 65 numbers"),
    "label": (digits, "digits.csv.gz", table(np.full((5, 65), 10)), "labels outside 0..9"),
    "no data": (japanese_vowels, "JapaneseVowels_TEST.ts", b"hello", "no line '@data'"),
    "no text": (japanese_vowels, "JapaneseVowels_TEST.ts", b"\xff\xfe@data", "cannot be read as text"),
    "class": (japanese_vowels, "JapaneseVowels_TEST.ts", ts(SERIES, [1, 2, 10]).encode(), "line 6: not 12 dimensions"),
    "no class": (japanese_vowels, "JapaneseVowels_TEST.ts", ts(SERIES, [1, "x", 2]).encode(), "line 5: invalid"),
    "dimensions": (japanese_vowels, "JapaneseVowels_TEST.ts", ts([SERIES[0][:3]], [1]).encode(), "line 4: not 12"),
    "long": (japanese_vowels, "JapaneseVowels_TEST.ts", ts([np.ones((12, 30))], [1]).encode(), "line 4: not 12"),
    "nan": (japanese_vowels, "JapaneseVowels_TEST.ts", ts([np.full((12, 9), np.nan)], [1]).encode(), "line 4: not 12"),
}


@pytest.mark.parametrize(("module", "file", "content", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_named(root: Path, module: ModuleType, file: str, content: bytes, message: str) -> None:
    (root / file).write_bytes(content)
    with pytest.raises(BadInput, match=f"{file}: .*{message}.*; install {module.DISTRIBUTION} again"):
        datasets.load(module.NAME, "test", root=root)


def test_missing_files_say_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no digits.csv.gz in it; name the folder that holds the files of digits"):
        datasets.load("digits", "test", root=tmp_path)
    with pytest.raises(
        BadInput, match=r"data set some: .*package some-data, not installed; run 'pip install --no-deps some-data'"
    ):
        packaged.find("some", "no_such_package", "some-data", "a.csv", None)
    with pytest.raises(BadInput, match=r"package NumPy, .*numpy/a\.csv is missing; run"):
        packaged.find("some", "numpy", "NumPy", "a.csv", None)
