"""Pruned weights stay 0 through training: what a step moves of them is taken back before the next one sees it.

Which ones are 0 is given, or found on the way: their share rises along a cubic (Zhu and Gupta 2017, arXiv:1710.01878,
section 3), fast while many weights are redundant and slowly towards the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfq_pipeline.passes.prune import Pruning, masks
from tfq_pipeline.plan import Plan
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


@dataclass(frozen=True)
class Sparsification:
    """A share of zeros that rises.

    Attributes:
        pruning: pattern, and the share that it ends with.
        layers: that it is for.
        start: share at the first step.
        end: share of the run after which it rises no more, 0 to 1.
        every: steps between two choices of the weights that go.
    """

    pruning: Pruning
    layers: tuple[str, ...]
    start: float = 0.0
    end: float = 0.75
    every: int = 20

    def share(self, step: int, steps: int) -> float:
        """Of the weights that are 0 after `step` of `steps`: s_f + (s_i - s_f) (1 - t / n)^3, equation 1."""
        last = max(1, round(self.end * steps))
        left = max(0.0, 1.0 - step / last)
        return self.pruning.sparsity + (self.start - self.pruning.sparsity) * left**3


class RisingSparsity(Companion):
    """Chooses weights that become 0 as a run goes on, the smallest ones, and keeps them at it.

    The history gets "sparsity", the share of the chosen layers' weights after each epoch.

    Args:
        kernels: by layer its kernel, and what takes arrays of it to TFLite's layout and back.
        options: see `Sparsification`.
        steps: of the whole run.
        log: of the run.
    """

    def __init__(
        self,
        kernels: Mapping[str, tuple[Any, Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]],
        options: Sparsification,
        steps: int,
        log: dict[str, list[float]],
    ) -> None:
        super().__init__(log)
        self.kernels, self.options, self.total = kernels, options, steps
        self.steps = tf.Variable(0, trainable=False, name="steps_of_sparsity", dtype=tf.int64)
        self.masks = {
            name: tf.Variable(tf.ones_like(kernel), trainable=False, name=f"{name}_mask")
            for name, (kernel, _, _) in kernels.items()
        }
        self.state = (self.steps, *self.masks.values())

        @tf.function(autograph=False)
        def mask() -> None:
            for name, (kernel, _, _) in kernels.items():
                kernel.assign(kernel * self.masks[name])

        self._mask = mask

    def kept(self) -> dict[str, np.ndarray]:
        """Which weights stay, bool in TFLite's layout, by layer."""
        return {name: to(self.masks[name].numpy() != 0) for name, (_, to, _) in self.kernels.items()}

    def finish(self) -> None:
        # Weights of an earlier epoch, which a callback may have brought back, have fewer zeros.
        self._mask()

    def planned(self, plan: Plan) -> Plan:
        return plan.with_weights({name: replace(plan.weights[name], kept=mask) for name, mask in self.kept().items()})

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps.assign_add(1)
        step, last = int(self.steps.numpy()), max(1, round(self.options.end * self.total))
        if step == last or (step < last and step % self.options.every == 0):
            self._choose(self.options.share(step, self.total))
        self._mask()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        kept = list(self.kept().values())
        share = 1.0 - sum(mask.sum() for mask in kept) / sum(mask.size for mask in kept)
        self.log.setdefault("sparsity", []).append(round(float(share), 6))

    def _choose(self, share: float) -> None:
        # What is 0 already is smallest, and stays.
        magnitudes = {
            name: np.abs(to(kernel.numpy())) * to(self.masks[name].numpy())
            for name, (kernel, to, _) in self.kernels.items()
        }
        for name, mask in masks(magnitudes, replace(self.options.pruning, sparsity=share)).items():
            self.masks[name].assign(self.kernels[name][2](mask).astype(np.float32))
