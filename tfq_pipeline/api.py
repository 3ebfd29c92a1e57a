"""Public calls that join the pipeline to the stages after it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfq_pipeline import pipeline, report
from tfq_pipeline.recipe import Recipe

if TYPE_CHECKING:  # imports TensorFlow
    from tfq_pipeline.train.trainer import Trainer


class Result(pipeline.Result):
    """A quantized model and how it came about; see `pipeline.Result`."""

    def report(self, directory: str | os.PathLike[str]) -> Path:
        """Writes a run folder: ``run.json``, ``plan.npz`` and the page ``report.html``, whose path is returned."""
        return report.publish(directory, self.document, self.plan)


def quantize(
    model: Any,
    recipe: str | os.PathLike[str] | Recipe,
    calibration: Any = None,
    data: Any = None,
    train: Any = None,
    seed: int = 0,
    progress: pipeline.Progress = pipeline.silent,
    target_drop: float | None = None,
    checkpoints: str | os.PathLike[str] | None = None,
    trainer: Trainer | None = None,
) -> Result:
    """Runs a recipe on a model: see `pipeline.quantize`, whose arguments these are."""
    done = pipeline.quantize(model, recipe, calibration, data, train, seed, progress, target_drop, checkpoints, trainer)
    return Result(**vars(done))
