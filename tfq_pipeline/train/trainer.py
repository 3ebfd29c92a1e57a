"""What a user brings to training that a recipe, being text, cannot hold."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import CodeType
from typing import Any, Literal

import tensorflow as tf
import tf_keras

from tfq_pipeline.errors import BadInput

# An option of TensorFlow's graph optimizer.
_REWRITE = "auto_mixed_precision_onednn_bfloat16"


@dataclass(frozen=True, eq=False)
class Trainer:
    """Parts of a Keras training, of tf_keras, which take the place of the recipe's or come beside them.

    Attributes:
        callbacks: called behind those of the training. They see the fake-quantized model, whose output "task" has
            logits, before a softmax or sigmoid at the end. A run that goes on from a checkpoint starts with new ones.
        loss: of labels and logits, instead of the cross entropy or squared error.
        metrics: of labels and logits, beside the accuracy.
        optimizer: makes the optimizer, given the learning rate or its schedule; the recipe's otherwise.
        strategy: a `tf.distribute.Strategy` under which everything is made and trained. Batches are split, so that
            `batch_size` is that of all replicas together.
        precision: "bfloat16" has TensorFlow's own rewriting of graphs compute what it deems safe (convolutions, matrix
            products) in 16 bits; variables, ranges and the loss stay float32, and the file is checked against float32.
    """

    callbacks: tuple[Any, ...] = ()
    loss: Any = None
    metrics: tuple[Any, ...] = ()
    optimizer: Callable[[Any], Any] | None = None
    strategy: Any = None
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise BadInput(f"trainer: precision: found {self.precision!r}; take 'float32' or 'bfloat16'")
        for callback in self.callbacks:
            if not isinstance(callback, tf_keras.callbacks.Callback):
                raise BadInput(_not_ours("callbacks", callback, "tf_keras.callbacks"))
        for metric in self.metrics:
            if not (isinstance(metric, str | tf_keras.metrics.Metric) or _is_function(metric)):
                raise BadInput(_not_ours("metrics", metric, "tf_keras.metrics"))
        if isinstance(self.loss, Mapping):
            raise BadInput(
                "trainer: loss: found losses by output; training is of models with one output, give its loss"
            )
        if not (self.loss is None or isinstance(self.loss, str | tf_keras.losses.Loss) or _is_function(self.loss)):
            raise BadInput(_not_ours("loss", self.loss, "tf_keras.losses"))

    def scope(self) -> AbstractContextManager[Any]:
        """In which variables of a run are made."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """In which steps run."""
        options = tf.config.optimizer.get_experimental_options()
        tf.config.optimizer.set_experimental_options({_REWRITE: self.precision == "bfloat16"})
        try:
            yield
        finally:
            tf.config.optimizer.set_experimental_options({_REWRITE: options.get(_REWRITE, False)})

    def optimizer_of(self, rate: Any, otherwise: Callable[[Any], Any]) -> Any:
        """The optimizer for a learning rate or schedule.

        Raises:
            BadInput: for something else than an optimizer of tf_keras.
        """
        made = (self.optimizer or otherwise)(rate)
        if not isinstance(made, tf_keras.optimizers.Optimizer):
            raise BadInput(_not_ours("optimizer", made, "tf_keras.optimizers"))
        return made

    def described(self, optimizer: Any) -> str:
        """What of this changes what is learned, to tell one run from another; empty where nothing is given."""
        if (self.loss, self.optimizer, self.strategy, self.precision) == (None, None, None, "float32"):
            return ""
        replicas = 1 if self.strategy is None else self.strategy.num_replicas_in_sync
        said = [type(optimizer).__name__, optimizer.get_config(), _told_apart(self.loss), replicas, self.precision]
        return json.dumps(said, default=str, sort_keys=True)


def _is_function(value: Any) -> bool:
    # Classes of Keras 3 can be called too.
    return callable(value) and not type(value).__module__.startswith("keras.")


def _told_apart(loss: Any) -> Any:
    """What tells losses apart: functions of one name by their code and the plain values that they hold."""
    if isinstance(loss, tf_keras.losses.Loss):
        return [type(loss).__name__, loss.get_config(), _told_apart(getattr(loss, "fn", None))]
    if loss is None or isinstance(loss, str):
        return loss
    code = getattr(loss, "__code__", None)
    if code is None:
        return [type(loss).__qualname__, _plain(vars(loss).values())]
    cells = [cell.cell_contents for cell in loss.__closure__ or ()]
    return [loss.__qualname__, _of_code(code), _plain([*(loss.__defaults__ or ()), *cells])]


def _of_code(code: CodeType) -> list[Any]:
    constants = [_of_code(value) if isinstance(value, CodeType) else repr(value) for value in code.co_consts]
    return [code.co_code.hex(), code.co_names, constants]


def _plain(values: Iterable[Any]) -> list[str]:
    # What else prints as may change from process to process.
    simple = (bool, int, float, str, bytes, tuple, type(None))
    return [repr(value) if isinstance(value, simple) else type(value).__qualname__ for value in values]


def _not_ours(what: str, found: Any, module: str) -> str:
    kind = type(found)
    return (
        f"trainer: {what}: found {kind.__name__} of {kind.__module__.split('.')[0]}; "
        f"training runs in tf_keras, take one of {module}"
    )
