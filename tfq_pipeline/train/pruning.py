"""Pruned weights stay 0 through training: what a step moves of them is taken back before the next one sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfq_pipeline.train.companion import Companion


class SparseWeights(Companion):
    """Multiplies kernels by their masks after every step.

    Args:
        kernels: each variable with a mask, bool of its shape, True where a weight stays.
        log: of the run.
    """

    def __init__(self, kernels: Sequence[tuple[Any, np.ndarray]], log: dict[str, list[float]]):
        super().__init__(log)
        pairs = [(kernel, tf.cast(mask, kernel.dtype)) for kernel, mask in kernels]

        @tf.function(autograph=False)
        def mask() -> None:
            for kernel, kept in pairs:
                kernel.assign(kernel * kept)

        self._mask = mask

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._mask()
