"""Oscillating weights: damping and iterative freezing (Nagel et al. 2022, arXiv:2203.11086).

Under a straight-through gradient a weight whose best value lies between two integers jumps from one to the other and
back without end. With the integers q(t) of a weight after step t, it oscillates at t (section 4.1) where q changes and
the change before it went the other way. How often it does is a moving average of this,

    f(t) = r o(t) + (1 - r) f(t - 1),   o(t) = 1 where it oscillates, else 0     (equation 4)

- Damping (section 5.1) adds lambda sum |Q(w) - clip(w)|^2 to the loss, clipped to what the integers reach and without a
  gradient of Q(w) and of the scale: it pulls weights to the middle of their step. Lambda rises from 0 along a cosine.
- Freezing (section 5.2, algorithm 1) holds a weight whose f exceeds a threshold at the integer that it was at most: the
  rounded moving average of q. Integers are held, not reals, as scales go on learning. The threshold falls along a
  cosine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfq_pipeline.annotate.quantizers import WeightQuantizer
from tfq_pipeline.annotate.quantizers.base import round_half_away
from tfq_pipeline.annotate.quantizers.lsq import LSQWeights
from tfq_pipeline.annotate.quantizers.min_max import MinMaxWeights
from tfq_pipeline.train.companion import Companion

# Quantizers whose integers are those nearest to the weights over the scale.
UNIFORM = (MinMaxWeights, LSQWeights)

# Weights with a larger frequency than this count as oscillating in the history (the paper's figure 2 and table 3).
_OSCILLATING = 0.005


@dataclass(frozen=True)
class Oscillation:
    """Options.

    Attributes:
        damping: lambda at the end of the run; 0 for none.
        freeze: frequency above which a weight is frozen, at the end of the run; None freezes none.
        freeze_start: the same at the start; None for `freeze` throughout.
        rate: r, of the newest step in both moving averages.
    """

    damping: float = 0.0
    freeze: float | None = None
    freeze_start: float | None = None
    rate: float = 0.01


class SteadyWeights(Companion):
    """Follows the integers of weights through a run, damps and freezes them.

    The history gets "oscillating" and "frozen", shares of the weights after each epoch.

    Args:
        quantizers: of weights on uniform grids: the kernel, its quantizer and the quantizer's variables.
        options: see `Oscillation`.
        steps: of the whole run, along which damping and threshold move; where it is not known (None) they are from the
            start what they are to be at the end.
        log: of the run.
    """

    def __init__(
        self,
        quantizers: Sequence[tuple[Any, WeightQuantizer, Mapping[str, Any]]],
        options: Oscillation,
        steps: int | None,
        log: dict[str, list[float]],
    ) -> None:
        super().__init__(log)
        self.quantizers, self.options, self.total = tuple(quantizers), options, steps
        self.steps = tf.Variable(0, trainable=False, name="steps_followed", dtype=tf.int64)
        starts = [_integers(*one)[0] for one in self.quantizers]
        self.previous = [_kept(start) for start in starts]
        self.average = [_kept(start) for start in starts]
        self.direction = [_kept(tf.zeros_like(start)) for start in starts]
        self.frequency = [_kept(tf.zeros_like(start)) for start in starts]
        self.frozen = [_kept(tf.zeros_like(start, tf.bool)) for start in starts]
        parts = (self.previous, self.average, self.direction, self.frequency, self.frozen)
        self.state = (self.steps, *(variable for part in parts for variable in part))
        self._follow = tf.function(self._followed, autograph=False)

    def _falling(self) -> Any:
        """1 at the start of the run to 0 at its end, along a cosine."""
        if self.total is None:
            return tf.constant(0.0)
        done = tf.cast(self.steps, tf.float32) / self.total
        return 0.5 * (1.0 + tf.cos(math.pi * tf.minimum(done, 1.0)))

    def loss(self) -> Any:
        if not self.options.damping:
            return 0.0
        distances = []
        for kernel, quantizer, variables in self.quantizers:
            integers, scale = (tf.stop_gradient(of) for of in _integers(kernel, quantizer, variables))
            reach = quantizer.top * scale
            inside = tf.clip_by_value(tf.reshape(kernel, quantizer.view), -reach, reach)
            distances.append(tf.reduce_sum(tf.square(integers * scale - inside)))
        return self.options.damping * (1.0 - self._falling()) * tf.add_n(distances)

    def _followed(self) -> None:
        self.steps.assign_add(1)
        rate, end = self.options.rate, self.options.freeze
        for i, (kernel, quantizer, variables) in enumerate(self.quantizers):
            nearest, scale = _integers(kernel, quantizer, variables)
            frozen, before, direction = self.frozen[i], self.previous[i], self.direction[i]
            now = tf.where(frozen, before, nearest)
            change = tf.sign(now - before)
            turned = tf.cast(change * direction < 0, tf.float32)
            self.frequency[i].assign(rate * turned + (1.0 - rate) * self.frequency[i])
            self.average[i].assign(rate * now + (1.0 - rate) * self.average[i])
            direction.assign(tf.where(change != 0, change, direction))
            if end is not None:
                start = end if self.options.freeze_start is None else self.options.freeze_start
                threshold = end + (start - end) * self._falling()
                caught = tf.logical_and(self.frequency[i] > threshold, tf.logical_not(frozen))
                now = tf.where(caught, round_half_away(self.average[i]), now)
                frozen.assign(tf.logical_or(frozen, caught))
                held = tf.where(frozen, now * scale, tf.reshape(kernel, quantizer.view))
                kernel.assign(tf.reshape(held, kernel.shape))
            before.assign(now)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._follow()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        pairs = zip(self.frequency, self.frozen, strict=True)
        moving = [tf.logical_and(frequency > _OSCILLATING, tf.logical_not(frozen)) for frequency, frozen in pairs]
        for name, masks in (("oscillating", moving), ("frozen", self.frozen)):
            counted = sum(int(tf.math.count_nonzero(mask)) for mask in masks)
            weights = sum(math.prod(mask.shape) for mask in masks)
            self.log.setdefault(name, []).append(round(counted / weights, 6))


def _integers(kernel: Any, quantizer: WeightQuantizer, variables: Mapping[str, Any]) -> tuple[Any, Any]:
    """A kernel's integers as float32, in the shape that it is seen in, and its scales, which broadcast over them."""
    seen = tf.reshape(kernel, quantizer.view)
    scale = quantizer.scale(seen, variables)
    return tf.clip_by_value(round_half_away(seen / scale), -quantizer.top, quantizer.top), scale


def _kept(value: Any) -> Any:
    return tf.Variable(value, trainable=False)
