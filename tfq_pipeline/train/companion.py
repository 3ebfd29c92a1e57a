"""What a technique adds to the training loop: a loss, state of its own, and something to do between steps."""

from __future__ import annotations

from typing import Any

import tf_keras

from tfq_pipeline.plan import Plan


class Companion(tf_keras.callbacks.Callback):
    """Goes along with a run as a Keras callback.

    Attributes:
        state: variables beside those of the model, kept in checkpoints.
        log: lists of numbers by name, kept in checkpoints and given back as part of the history.
    """

    def __init__(self, log: dict[str, list[float]]) -> None:
        super().__init__()
        self.state: tuple[Any, ...] = ()
        self.log = log

    def loss(self) -> Any:
        """What is added to the loss of every step, a scalar."""
        return 0.0

    def finish(self) -> None:
        """Called once when training is over, whatever other callbacks made of the weights at its end."""

    def planned(self, plan: Plan) -> Plan:
        """The plan with what the run decided beside scales; called behind `finish`."""
        return plan
