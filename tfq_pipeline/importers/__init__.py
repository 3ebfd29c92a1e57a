"""Reads the models that users have: Keras models as one flat functional tf_keras model of plain layers, others as float
.tflite.

See docs/importers.md for what is read, the form, and what is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tfq_pipeline.data import InputSpec
from tfq_pipeline.errors import BadInput, TfqError
from tfq_pipeline.graph.protocol import Graph
from tfq_pipeline.importers import saved_model
from tfq_pipeline.importers.detect import check_loadable, detect
from tfq_pipeline.importers.walk import Replacements

__all__ = ["Imported", "Opened", "Replacements", "detect", "load", "open_graph"]


@dataclass(frozen=True)
class Imported:
    """A model in canonical form.

    Attributes:
        model: functional `tf_keras.Model`; flat, every call of a layer without weights has a layer of its own, and a
            layer with weights is called more than once only where the user's model shares it.
        source: path, or the class and name of the model that was passed.
        format: "keras3", "keras2", "saved_model", or for an object "keras3_object" or "tf_keras".
        layer_names: name of each layer of `model` -> path of the user's layer that it stands for
            ("outer/inner/conv" in nested models). Several layers can stand for one.
        input_specs: what each input takes, in the order of `model.inputs`.
    """

    model: Any
    source: str
    format: str
    layer_names: Mapping[str, str]
    input_specs: tuple[InputSpec, ...]


@dataclass(frozen=True)
class Opened:
    """A model as the graph that passes see.

    Attributes:
        graph: a `KerasGraph`, or a `TfliteGraph` for models that come without Keras layers.
        source: path, or the class and name of the model that was passed.
        layer_names: name in the user's model of each layer of the graph.
    """

    graph: Graph
    source: str
    layer_names: Mapping[str, str]


# Formats without Keras layers, which `load` does not take.
ELSEWHERE: Mapping[str, str] = {
    "tflite": "a .tflite has no Keras layers; a recipe that trains needs the Keras model it came from",
    "onnx": "ONNX models are not imported yet; convert it with onnx2tf and pass the .tflite or .keras file",
    "pt2": "PyTorch programs are not imported yet; convert it with litert-torch and pass the float .tflite",
}
_NO_METADATA = (
    "a SavedModel without Keras metadata (model.export() and TensorFlow modules write such) has no Keras layers; "
    "a recipe that trains needs the Keras model it came from"
)


def open_graph(model: Any, replace: Replacements = MappingProxyType({})) -> Opened:
    """Reads a model into a graph.

    Args:
        model: what `load` takes, path of a float `.tflite`, or of any SavedModel with one signature.
        replace: see `load`.

    Raises:
        BadInput: the file is missing, corrupt, quantized already, or of a format that cannot be imported.
        UnsupportedLayer, GateFailed: as `load`.
    """
    from tfq_pipeline.graph.keras_graph import KerasGraph
    from tfq_pipeline.graph.tflite_graph import TfliteGraph

    if isinstance(model, str | os.PathLike):
        kind = detect(model)
        if kind == "tflite":
            return Opened(TfliteGraph.read(model), os.fspath(model), {})
        if kind == "saved_model" and not _has_keras_metadata(Path(model)):
            return Opened(TfliteGraph.read(saved_model.to_tflite(Path(model))), os.fspath(model), {})
    imported = load(model, replace)
    return Opened(KerasGraph.from_model(imported.model), imported.source, imported.layer_names)


def _has_keras_metadata(path: Path) -> bool:
    return (path / "keras_metadata.pb").is_file()


def load(model: Any, replace: Replacements = MappingProxyType({})) -> Imported:
    """Reads a model and proves the result: its outputs equal the original's to 1e-5 on random inputs.

    Args:
        model: path of a `.keras`, `.h5` or SavedModel, a Keras 3 model, or a tf_keras model.
        replace: for layers that the importer cannot open itself: by class name, a function from such a layer to what
            computes the same with layers of the same Keras, a layer, a model, or a function of the layer's arguments.

    Raises:
        BadInput: the file is missing, corrupt, or of a format that cannot be imported.
        UnsupportedLayer: a layer cannot be ported; the message names it.
        GateFailed: the port's outputs differ; the message names the first layer that does.
    """
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        kind = detect(path)
        if kind in ELSEWHERE:
            raise BadInput(f"{path}: {ELSEWHERE[kind]}")
        return _import(LOADERS[kind](path), str(path), kind, path.stem, replace)
    module = type(model).__mro__
    bases = {base.__module__.split(".")[0] for base in module if base.__name__ == "Model"}
    source = f"{type(model).__name__} '{getattr(model, 'name', '')}'"
    if "tf_keras" in bases:
        return _import(model, source, "tf_keras", model.name, replace)
    if "keras" in bases:
        return _import(model, source, "keras3_object", model.name, replace)
    raise BadInput(f"model is a {type(model).__name__}; want a path, a keras.Model or a tf_keras.Model")


def _import(original: Any, source: str, kind: str, name: str, replace: Replacements) -> Imported:
    from tfq_pipeline.importers import keras2, keras3, run
    from tfq_pipeline.importers.build import build
    from tfq_pipeline.importers.canonical import canonical
    from tfq_pipeline.importers.verify import check

    is_keras3 = kind.startswith("keras3")
    read = keras3.read if is_keras3 else keras2.read
    flat, reference = read(original, replace)
    flat = canonical(flat)
    built = build(flat, name)
    check(run.outputs_of(reference), run.probes_of(reference, is_keras3), flat, built)
    specs = tuple(
        InputSpec(name=tensor.node.layer.name, shape=tuple(tensor.shape[1:]), dtype=tensor.dtype.name)
        for tensor in built.model.inputs
    )
    return Imported(built.model, source, kind, dict(built.layer_names), specs)


def _guarded(path: Path, load_file: Callable[[], Any]) -> Any:
    """What `load_file` gives; what it raises in one line."""
    try:
        return load_file()
    except TfqError:
        raise
    except Exception as error:  # a corrupt file can raise anything from the readers underneath
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = re.sub(r"\s+", " ", lines[0])[:200] if lines else "no message"
        raise BadInput(
            f"{path}: the model cannot be loaded ({type(error).__name__}: {cause}); "
            "save it again or pass the model as a Python object"
        ) from error


# Classes of Keras 2 graphs that are no public layers.
GRAPH_CLASSES = ("Functional", "Model", "Sequential", "TFOpLambda", "SlicingOpLambda")


def _is_keras_class(package: Any, kind: str) -> bool:
    return kind in GRAPH_CLASSES or hasattr(package.layers, kind)


def _load_keras3(path: Path) -> Any:
    import keras

    check_loadable(path, keras.saving.get_custom_objects(), lambda kind: _is_keras_class(keras, kind))
    return _guarded(path, lambda: keras.models.load_model(path, compile=False))


def _load_keras2(path: Path) -> Any:
    import tf_keras

    from tfq_pipeline.importers import op_layer  # registers the layers of canonical models that were saved

    custom = {**tf_keras.saving.get_custom_objects(), **op_layer.LAYERS}
    check_loadable(path, custom, lambda kind: _is_keras_class(tf_keras, kind))
    return _guarded(path, lambda: tf_keras.models.load_model(path, compile=False))


def _load_saved_model(path: Path) -> Any:
    import tf_keras

    if not _has_keras_metadata(path):
        raise BadInput(f"{path}: {_NO_METADATA}")
    return _guarded(path, lambda: tf_keras.models.load_model(path, compile=False))


LOADERS: Mapping[str, Callable[[Path], Any]] = {
    "keras3": _load_keras3,
    "keras2": _load_keras2,
    "saved_model": _load_saved_model,
}
