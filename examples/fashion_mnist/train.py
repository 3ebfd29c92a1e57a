"""Trains one of the example's nets on Fashion-MNIST and writes a Keras 3 file without optimizer state.

python -m examples.fashion_mnist.train --net mobilenet --output examples/fashion_mnist/mobilenet.keras
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import app, flags

from examples.fashion_mnist.nets import NETS
from examples.training import train
from tfq_pipeline import datasets

FLAGS = flags.FLAGS
flags.DEFINE_enum("net", "mobilenet", list(NETS), "Which net.")
flags.DEFINE_integer("epochs", 12, "Passes over the 60,000 training images.", lower_bound=1)


def augmented(images: np.ndarray, labels: np.ndarray, batch: int, rng: np.random.Generator) -> Iterator[tuple]:
    """Shuffled batches for ever, each image mirrored half the time and shifted by up to one pixel."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows: Any = np.lib.stride_tricks.sliding_window_view(padded, (28, 28), axis=(1, 2))  # type: ignore[call-overload]
    while True:
        order = rng.permutation(len(images))
        for start in range(0, len(order) - batch + 1, batch):
            chosen = order[start : start + batch]
            dy, dx = rng.integers(0, 3, (2, batch))
            x = windows[chosen, dy, dx].transpose(0, 2, 3, 1)
            mirrored = rng.random(batch) < 0.5
            x[mirrored] = x[mirrored, :, ::-1]
            yield x, labels[chosen]


def main(argv: list[str]) -> None:
    """Trains and saves the chosen net."""
    del argv
    data = datasets.fashion_mnist.arrays("train", hold_out=False)
    train(FLAGS.net, NETS[FLAGS.net], data, datasets.fashion_mnist.arrays("test"), augmented, FLAGS.epochs)


if __name__ == "__main__":
    app.run(main)
