"""The data that flows through calibration, training and evaluation: streams of batches that can be read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from tfq_pipeline.errors import BadInput


@dataclass(frozen=True)
class Batch:
    """One batch.

    Attributes:
        inputs: one array per model input, in the model's input order, each [batch, ...].
        labels: integer class labels [batch], or None where the data has none.
    """

    inputs: tuple[np.ndarray, ...]
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.inputs[0])


# Which of n samples come when: given n and the number of the pass, a permutation of 0..n-1.
Order = Callable[[int, int], np.ndarray]


def random_order(seed: int) -> Order:
    """A random order for each pass; the same pass has the same order every time it is made."""
    return lambda total, epoch: np.random.default_rng((seed, epoch)).permutation(total)


@dataclass(frozen=True)
class InputSpec:
    """What a model expects of one input: name, shape without the batch dimension (None where free), dtype name."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Data:
    """A re-iterable stream of batches.

    Attributes:
        name: what the user named it, for messages and reports.
        open: starts a fresh pass over the batches.
        samples: number of samples, None when only a full pass can tell.
        provenance: split, size, checksum and the like; goes into every result that used the data.
        reopen: starts a pass in another order, given its number; None where the order cannot be changed.
    """

    name: str
    open: Callable[[], Iterator[Batch]]
    samples: int | None = None
    provenance: dict[str, object] = field(default_factory=dict)
    reopen: Callable[[int], Iterator[Batch]] | None = None

    def __iter__(self) -> Iterator[Batch]:
        return self.open()

    def epoch(self, number: int) -> Data:
        """The same samples in the order of another pass, as training wants them; every other reader sees one order."""
        return self if self.reopen is None else replace(self, open=partial(self.reopen, number))

    def take(self, samples: int) -> Data:
        """The first `samples` samples, cut inside a batch where needed."""

        def head() -> Iterator[Batch]:
            left = samples
            for batch in self.open():
                if left <= 0:
                    return
                n = min(left, len(batch))
                yield _rows(batch, 0, n)
                left -= n

        size = samples if self.samples is None else min(samples, self.samples)
        return replace(self, open=head, samples=size, reopen=None)

    def rebatched(self, batch_size: int) -> Data:
        """The same samples in batches of `batch_size`; the last one may be smaller."""

        def batches() -> Iterator[Batch]:
            held: list[Batch] = []
            count = 0
            for batch in self.open():
                held.append(batch)
                count += len(batch)
                while count >= batch_size:
                    whole = _joined(held)
                    yield _rows(whole, 0, batch_size)
                    held, count = [_rows(whole, batch_size, len(whole))], count - batch_size
            if count:
                yield _joined(held)

        return replace(self, open=batches, reopen=None)


def check_classes(labels: np.ndarray, outputs: Sequence[int | None], name: str, start: int | None) -> None:
    """Checks class labels against what a model says.

    Args:
        labels: whole numbers [n, ...] from 0.
        outputs: shape of the model's output [n, ..., classes]; one column means two classes.
        name: of the data, for the message.
        start: number of the first of these samples in the data, None where they are shuffled.

    Raises:
        BadInput: labels of another shape, or of classes that the model does not have.
    """
    *rows, classes = outputs[1:]
    if len(outputs) < 2 or list(labels.shape[1:]) != rows:
        found, wanted = (", ".join(map(str, ("?", *shape[1:]))) for shape in (labels.shape, outputs))
        raise BadInput(
            f"{name}: class labels of shape [{found}] for outputs of shape [{wanted}]; "
            "give one class number for each row of the output"
        )
    limit = max(2, classes or 0)
    if labels.size and labels.max() >= limit:
        bad = int(np.argmax(labels.reshape(len(labels), -1).max(axis=1)))
        which = "a label" if start is None else f"the label of sample {start + bad}"
        raise BadInput(f"{name}: {which} is {labels.max()}, the model has classes 0..{limit - 1}; correct it")


def noise(
    inputs: Sequence[InputSpec],
    samples: int,
    seed: int = 0,
    free: int = 16,
    limits: tuple[float, float] = (-1.0, 1.0),
) -> Data:
    """Inputs that know nothing of the task: uniform between the limits, integers 0 or 1; free dimensions have size
    `free`."""

    def batches() -> Iterator[Batch]:
        rng = np.random.default_rng(seed)

        def one(spec: InputSpec) -> np.ndarray:
            shape = (samples, *(free if n is None else n for n in spec.shape))
            if np.dtype(spec.dtype).kind in "iub":
                return rng.integers(0, 2, shape).astype(spec.dtype)
            return rng.uniform(*limits, shape).astype(spec.dtype)

        yield Batch(tuple(one(spec) for spec in inputs))

    return Data("noise", batches, samples)


def _joined(batches: list[Batch]) -> Batch:
    labels = [b.labels for b in batches if b.labels is not None]
    inputs = tuple(np.concatenate(column) for column in zip(*(b.inputs for b in batches), strict=True))
    return Batch(inputs, np.concatenate(labels) if labels else None)


def _rows(batch: Batch, start: int, stop: int) -> Batch:
    return Batch(tuple(x[start:stop] for x in batch.inputs), None if batch.labels is None else batch.labels[start:stop])
