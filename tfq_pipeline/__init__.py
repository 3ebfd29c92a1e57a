"""Low-bit quantization of Keras models to .tflite: the public calls, nothing else.

    import tfq_pipeline as tfq

    result = tfq.quantize(model, recipe="static_wi4_ai8", calibration=batches, data=labelled)
    result.save("model.tflite")

Each is imported when it is first used, so that ``import tfq_pipeline`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from android_bench import benchmark as benchmark
    from android_bench import devices as devices
    from tfq_pipeline.annotate.scheme import load_trained as load_trained
    from tfq_pipeline.api import Result as Result
    from tfq_pipeline.api import quantize as quantize
    from tfq_pipeline.evaluation import evaluate as evaluate
    from tfq_pipeline.pipeline import prepare as prepare
    from tfq_pipeline.recipe import builtin as recipes
    from tfq_pipeline.tflite.inspect import inspect as inspect
    from tfq_pipeline.train.trainer import Trainer as Trainer

_CALLS = {
    "Result": ("tfq_pipeline.api", "Result"),
    "Trainer": ("tfq_pipeline.train.trainer", "Trainer"),
    "benchmark": ("android_bench", "benchmark"),
    "devices": ("android_bench", "devices"),
    "evaluate": ("tfq_pipeline.evaluation", "evaluate"),
    "inspect": ("tfq_pipeline.tflite.inspect", "inspect"),
    "load_trained": ("tfq_pipeline.annotate.scheme", "load_trained"),
    "prepare": ("tfq_pipeline.pipeline", "prepare"),
    "quantize": ("tfq_pipeline.api", "quantize"),
    "recipes": ("tfq_pipeline.recipe", "builtin"),
}

__all__ = [
    "Result",
    "Trainer",
    "benchmark",
    "devices",
    "evaluate",
    "inspect",
    "load_trained",
    "prepare",
    "quantize",
    "recipes",
]


def __getattr__(name: str) -> Any:
    if name not in _CALLS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    module, attribute = _CALLS[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
