"""The data that flows through calibration, training and evaluation: streams of batches that can be read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np


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
    """

    name: str
    open: Callable[[], Iterator[Batch]]
    samples: int | None = None
    provenance: dict[str, object] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Batch]:
        return self.open()

    def take(self, samples: int) -> Data:
        """The first `samples` samples, cut inside a batch where needed."""

        def head() -> Iterator[Batch]:
            left = samples
            for batch in self.open():
                if left <= 0:
                    return
                n = min(left, len(batch))
                yield batch if n == len(batch) else Batch(
                    tuple(x[:n] for x in batch.inputs), None if batch.labels is None else batch.labels[:n]
                )
                left -= n

        size = samples if self.samples is None else min(samples, self.samples)
        return replace(self, open=head, samples=size)
