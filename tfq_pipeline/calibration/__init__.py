"""Range estimates of activations and weights: one method a file, all in two tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from tfq_pipeline.calibration import entropy, mse, percentile
from tfq_pipeline.calibration.entropy import Entropy
from tfq_pipeline.calibration.minmax import MinMax
from tfq_pipeline.calibration.moving_average import MovingAverage
from tfq_pipeline.calibration.mse import Mse
from tfq_pipeline.calibration.observer import Observer
from tfq_pipeline.calibration.percentile import Percentile
from tfq_pipeline.numerics.affine import weight_range

# The names that recipes use, for activations. Options of a recipe are the keyword arguments of the class.
OBSERVERS: Mapping[str, Callable[..., Observer]] = MappingProxyType(
    {"minmax": MinMax, "moving_average": MovingAverage, "percentile": Percentile, "entropy": Entropy, "mse": Mse}
)

# Percentile of a channel's weights, of which there are few: it leaves out the largest of a thousand.
_WEIGHTS_PERCENTILE = 99.9

# The same methods for weights: given rows [channels, values], bits and whether the zero point is 0, the range of each
# row.
WEIGHT_RANGES: Mapping[str, Callable[[np.ndarray, int, bool], tuple[np.ndarray, np.ndarray]]] = MappingProxyType(
    {
        "minmax": lambda rows, bits, symmetric: weight_range(rows, 0),
        "percentile": lambda rows, bits, symmetric: percentile.row_ranges(rows, _WEIGHTS_PERCENTILE),
        "entropy": lambda rows, bits, symmetric: entropy.row_ranges(rows, bits),
        "mse": mse.row_ranges,
    }
)
