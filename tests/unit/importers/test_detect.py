"""Formats are told by content, and what cannot be a model is refused in one line. Needs no TensorFlow."""

import json
import zipfile

import pytest

from tfq_pipeline.errors import BadInput, UnsupportedLayer
from tfq_pipeline.importers import detect, load
from tfq_pipeline.importers.detect import check_loadable


def archive(path, **files):
    with zipfile.ZipFile(path, "w") as target:
        for name, text in files.items():
            target.writestr(name.replace("__", "."), text)
    return path


@pytest.mark.parametrize(("version", "expected"), [("3.15.1", "keras3"), ("2.21.0", "keras2")])
def test_keras_zip(tmp_path, version, expected):
    path = archive(tmp_path / "a.bin", config__json="{}", metadata__json=json.dumps({"keras_version": version}))
    assert detect(path) == expected


def test_others_by_content(tmp_path):
    (tmp_path / "a").write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(20))
    (tmp_path / "a.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    archive(tmp_path / "a.pt2", **{"a/archive_format": "pt2"})
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/saved_model.pb").write_bytes(b"x")
    assert [detect(tmp_path / n) for n in ("a", "a.onnx", "a.pt2", "saved")] == ["tflite", "onnx", "pt2", "saved_model"]
    with pytest.raises(BadInput, match="has no Keras layers"):
        load(tmp_path / "a")
    with pytest.raises(BadInput, match="onnx2tf"):
        load(tmp_path / "a.onnx")
    with pytest.raises(BadInput, match="litert-torch"):
        load(tmp_path / "a.pt2")


BROKEN = {
    "missing.keras": (None, "no such file"),
    "empty.keras": (b"", "the file is empty"),
    "text.txt": (b"not a model at all\n", "not a model of a known format"),
    "text.keras": (b"not a model at all\n", "corrupt: its first bytes are not those of a .keras file"),
    "short.h5": (b"\x89HDF\r\n\x1a\n" + bytes(30), "HDF5 file is corrupt or cut short"),
    "short.keras": (b"PK\x03\x04" + bytes(40), "zip archive is corrupt"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(tmp_path, name):
    content, message = BROKEN[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        load(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_and_foreign_archives(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="it is empty"):
        detect(tmp_path / "empty")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/readme").write_text("x")
    with pytest.raises(BadInput, match=r"no saved_model\.pb"):
        detect(tmp_path / "other")
    with pytest.raises(BadInput, match=r"no config\.json"):
        detect(archive(tmp_path / "a.zip", readme="x"))
    with pytest.raises(BadInput, match=r"metadata\.json in it cannot be read"):
        detect(archive(tmp_path / "a.keras", config__json="{}", metadata__json="{"))


def test_layers_that_need_code_are_named_before_loading(tmp_path):
    def model(layer):
        config = {"class_name": "Sequential", "module": "keras", "config": {"name": "m", "layers": [layer]}}
        return archive(tmp_path / "m.keras", config__json=json.dumps(config), metadata__json="{}")

    scale = {"class_name": "Lambda", "module": "keras.layers", "config": {"name": "scale"}}
    with pytest.raises(UnsupportedLayer, match=r"layer 'scale' \(Lambda\).*not run from a file"):
        check_loadable(model(scale), {}, bool)
    own = {"class_name": "Own", "module": "app.layers", "registered_name": "app>Own", "config": {"name": "mine"}}
    with pytest.raises(UnsupportedLayer, match=r"layer 'mine' \(Own\).*register"):
        check_loadable(model(own), {}, bool)
    check_loadable(model(own), {"app>Own": object}, bool)
    bare = {"class_name": "Own", "config": {"name": "mine"}}
    with pytest.raises(UnsupportedLayer, match="does not bring the code"):
        check_loadable(model(bare), {}, lambda kind: kind == "Dense")
