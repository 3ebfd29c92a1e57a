"""Range estimates for activations: one observer a file, all in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from tfq_pipeline.calibration.entropy import Entropy
from tfq_pipeline.calibration.minmax import MinMax
from tfq_pipeline.calibration.moving_average import MovingAverage
from tfq_pipeline.calibration.mse import Mse
from tfq_pipeline.calibration.observer import Observer
from tfq_pipeline.calibration.percentile import Percentile

# The names that recipes use. Options of a recipe are the keyword arguments of the class.
OBSERVERS: Mapping[str, Callable[..., Observer]] = MappingProxyType(
    {"minmax": MinMax, "moving_average": MovingAverage, "percentile": Percentile, "entropy": Entropy, "mse": Mse}
)
