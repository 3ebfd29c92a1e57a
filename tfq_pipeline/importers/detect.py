"""Tells model formats apart by content, and finds in a Keras file what cannot be loaded before anything runs."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfq_pipeline.errors import BadInput, UnsupportedLayer

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
TFLITE_MAGIC = b"TFL3"
WANTED = "want Keras .keras or .h5, a SavedModel folder, .tflite, .onnx or .pt2"


def detect(path: str | os.PathLike[str]) -> str:
    """The format of a model file or folder, by content.

    Returns:
        "keras3" or "keras2" (zip or HDF5), "saved_model", "tflite", "onnx" or "pt2".

    Raises:
        BadInput: missing, empty, corrupt or of no known format.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path}: no such file or folder; check the path")
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "saved_model"
        found = "it is empty" if not any(path.iterdir()) else "it has no saved_model.pb"
        raise BadInput(f"{path}: not a SavedModel: {found}; {WANTED}")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
    if not head:
        raise BadInput(f"{path}: the file is empty; {WANTED}")
    if head[4:8] == TFLITE_MAGIC:
        return "tflite"
    if head.startswith(HDF5_MAGIC):
        return _keras_of(_h5_attributes(path)[1])
    if head.startswith(b"PK"):
        return _detect_zip(path)
    if path.suffix == ".onnx" and head[:1] == b"\x08":
        return "onnx"
    if path.suffix in (".keras", ".h5", ".hdf5", ".tflite", ".onnx", ".pt2"):
        raise BadInput(
            f"{path}: the file is corrupt: its first bytes are not those of a {path.suffix} file; save or copy it again"
        )
    raise BadInput(f"{path}: not a model of a known format; {WANTED}")


def _detect_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise BadInput(f"{path}: the zip archive is corrupt ({error}); save or copy the model again") from error
    if "config.json" in names and "metadata.json" in names:
        return _keras_of(_zip_json(path, "metadata.json").get("keras_version"))
    if any(name.endswith(("serialized_exported_program.json", "archive_format")) for name in names):
        return "pt2"
    raise BadInput(f"{path}: a zip archive, but not of a model (no config.json); {WANTED}")


def _zip_json(path: Path, name: str) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read(name))
    except (zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path}: {name} in it cannot be read ({error}); save or copy the model again") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path}: {name} in it is not a JSON object; save the model again")
    return found


def _h5_attributes(path: Path) -> tuple[dict[str, Any], str | None]:
    """The model's config and the version of Keras that wrote it."""
    import h5py  # type: ignore[import-untyped]

    try:
        with h5py.File(path, "r") as file:
            config, version = file.attrs.get("model_config"), file.attrs.get("keras_version")
            weights_only = "layer_names" in file.attrs or "layers" in file or "_layer_checkpoint_dependencies" in file
    except OSError as error:
        raise BadInput(f"{path}: the HDF5 file is corrupt or cut short; save or copy the model again") from error
    if config is None:
        found = "weights alone" if weights_only else "no Keras model"
        raise BadInput(f"{path}: the file holds {found}; save the whole model with model.save()")
    text = config.decode() if isinstance(config, bytes) else config
    try:
        return json.loads(text), version.decode() if isinstance(version, bytes) else version
    except ValueError as error:
        raise BadInput(f"{path}: its model_config is not JSON; save the model again") from error


def _keras_of(version: Any) -> str:
    return "keras3" if isinstance(version, str) and version.startswith("3") else "keras2"


def check_loadable(path: Path, custom: Mapping[str, Any], is_known: Callable[[str], bool]) -> None:
    """Refuses a Keras file whose layers need code that the file does not bring.

    Args:
        custom: registered custom objects by their registered name.
        is_known: whether a class name without a module, as HDF5 files have it, is one that Keras brings.

    Raises:
        UnsupportedLayer: a Lambda layer, whose code would have to be run from the file; a class that is not Keras'.
        BadInput: the config cannot be read.
    """
    config = _zip_json(path, "config.json") if zipfile.is_zipfile(path) else _h5_attributes(path)[0]
    for layer in _layers(config):
        kind = layer["class_name"]
        inner = layer.get("config")
        name = inner.get("name", kind) if isinstance(inner, dict) else kind
        if kind == "Lambda":
            raise UnsupportedLayer(
                name,
                kind,
                f"{path} holds Python code for it, which is not run from a file",
                "replace it by Keras layers or keras.ops, or pass the model as a Python object",
            )
        module, registered = layer.get("module"), layer.get("registered_name") or kind
        if isinstance(module, str):
            own = module.split(".")[0] not in ("keras", "tf_keras", "builtins")
        else:
            own = not is_known(kind)
        if own and registered not in custom:
            raise UnsupportedLayer(
                name,
                kind,
                f"{path} does not bring the code of this custom class",
                "register it with keras.saving.register_keras_serializable and import it first, "
                "or pass the model as a Python object",
            )


def _layers(value: Any) -> Iterator[dict[str, Any]]:
    """Every layer of a config: entries of `layers` lists, and what wrappers hold as `layer` or `cell`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            found = (
                inner if key == "layers" and isinstance(inner, list) else [inner] if key in ("layer", "cell") else []
            )
            yield from (v for v in found if isinstance(v, dict) and isinstance(v.get("class_name"), str))
            yield from _layers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _layers(inner)
