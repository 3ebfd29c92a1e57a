"""Task metrics of a model on labelled data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfq_pipeline.data import Data, check_classes
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.precision import float32

Run = Callable[[Sequence[np.ndarray]], tuple[np.ndarray, ...]]
Progress = Callable[[int, int | None], None]


def _silent(done: int, of: int | None) -> None:
    """Progress that nobody watches."""


@float32()
def evaluate(
    model: Any, data: Any, delegate: str | None = None, threads: int = 1, progress: Progress = _silent
) -> dict[str, Any]:
    """Measures a model.

    Args:
        model: path of a ``.tflite`` or of anything that the importers read, or a Keras model.
        data: labelled data as `readers.open_data` takes it.
        delegate: "int4" or None; for ``.tflite`` only.
        threads: of the ``.tflite`` runtime.
        progress: told the samples done and the total.

    Returns:
        The `evaluate` document: model, samples, metrics (accuracy, with top5_accuracy from ten classes on, for integer
        labels; mse and mae for float labels), seconds, and what it ran on.

    Raises:
        BadInput: for a model or data that cannot be used.
        DeviceFailed: when the runtime fails.
    """
    from tfq_pipeline import readers

    readers.require({}, data=data)
    if isinstance(model, str | os.PathLike) and os.fspath(model).endswith(".tflite"):
        from tfq_pipeline.tflite.interpreter import open_model

        loaded = open_model(model, delegate, threads)
        run: Run = loaded.run
        inputs, runtime = loaded.inputs, "litert"
    else:
        if delegate is not None:
            raise BadInput(
                f"--delegate={delegate}: {_name(model)} is no .tflite; quantize it first, or leave the flag out"
            )
        from tfq_pipeline import importers

        graph = importers.open_graph(model).graph
        run, inputs, runtime = graph.run, graph.inputs, "keras" if isinstance(graph, KerasGraph) else "litert"
    opened = data if isinstance(data, Data) else readers.open_data(data, inputs, "test", labels=True)
    started = time.perf_counter()
    counted = _Counted(progress)
    metrics = measure(run, opened, counted)
    return {
        "model": _name(model),
        "samples": counted.done,
        "metrics": metrics,
        "seconds": round(time.perf_counter() - started, 3),
        "runtime": runtime,
        "delegate": delegate,
        "data": opened.provenance,
    }


def measure(run: Run, data: Data, progress: Progress = _silent) -> dict[str, float]:
    """Metrics of a function from inputs to outputs, of which the first counts.

    Integer labels [n, ...] are classes of outputs [n, ..., classes] (one column means two classes: a logit or a
    probability); float labels are targets of outputs of the same shape.

    Raises:
        BadInput: for labels that do not fit the outputs.
    """
    tally: _Classes | _Targets | None = None
    done = 0
    for batch in data:
        if batch.labels is None:
            raise BadInput(f"{data.name}: has no labels; measuring needs labelled data")
        output = run(batch.inputs)[0]
        if tally is None:
            tally = _Classes() if batch.labels.dtype.kind in "iu" else _Targets()
        tally.add(output, batch.labels, data.name, done)
        done += len(batch)
        progress(done, data.samples)
    if tally is None:
        raise BadInput(f"{data.name}: holds no samples; give at least one")
    return tally.metrics()


@dataclass
class _Classes:
    """Running counts of classification."""

    total: int = 0
    first: int = 0
    fifth: int = 0
    classes: int = 0
    single: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(self, output: np.ndarray, labels: np.ndarray, name: str, start: int) -> None:
        check_classes(labels, output.shape, name, start)
        self.classes = output.shape[-1]
        self.total += labels.size
        if self.classes == 1:
            self.single.append((output[..., 0], labels))
            return
        self.first += int((output.argmax(axis=-1) == labels).sum())
        if self.classes >= 10:
            best = np.argpartition(-output, 4, axis=-1)[..., :5]
            self.fifth += int((best == labels[..., np.newaxis]).any(axis=-1).sum())

    def metrics(self) -> dict[str, float]:
        if self.single:
            scores = np.concatenate([s.ravel() for s, _ in self.single])
            labels = np.concatenate([y.ravel() for _, y in self.single])
            limit = 0.5 if scores.min() >= 0 and scores.max() <= 1 else 0.0
            return {"accuracy": float(((scores > limit) == labels).mean())}
        found = {"accuracy": self.first / self.total}
        return {**found, "top5_accuracy": self.fifth / self.total} if self.classes >= 10 else found


@dataclass
class _Targets:
    """Running sums of regression."""

    total: int = 0
    squared: float = 0.0
    absolute: float = 0.0

    def add(self, output: np.ndarray, labels: np.ndarray, name: str, start: int) -> None:
        if labels.ndim + 1 == output.ndim and output.shape[-1] == 1:
            labels = labels[..., np.newaxis]
        if output.shape != labels.shape:
            raise BadInput(
                f"{name}: float labels of shape {list(labels.shape)} for outputs of shape {list(output.shape)} "
                f"at sample {start}; give targets of that shape, or class numbers as integers"
            )
        error = output.astype(np.float64) - labels
        self.total += error.size
        self.squared += float(np.square(error).sum())
        self.absolute += float(np.abs(error).sum())

    def metrics(self) -> dict[str, float]:
        return {"mse": self.squared / self.total, "mae": self.absolute / self.total}


class _Counted:
    """Progress that remembers how far it came."""

    def __init__(self, inner: Progress) -> None:
        self.done, self._inner = 0, inner

    def __call__(self, done: int, of: int | None) -> None:
        self.done = done
        self._inner(done, of)


def _name(model: Any) -> str:
    return os.fspath(model) if isinstance(model, str | os.PathLike) else str(getattr(model, "name", "model"))
