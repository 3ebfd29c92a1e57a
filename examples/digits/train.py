"""Trains a small convolutional net on the digits of scikit-learn and writes a Keras 3 file.

python -m examples.digits.train --batch_size 50 --output examples/digits/cnn.keras
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import app, flags

from examples.training import train
from tfq_pipeline import datasets

FLAGS = flags.FLAGS
flags.DEFINE_integer("epochs", 60, "Passes over the 1,000 training images.", lower_bound=1)


def cnn() -> Any:
    """Image [8, 8, 1] in 0..1 to logits [10]: a convolution, then two depthwise separable ones, batch norm and ReLU."""
    import keras
    from keras import layers

    def norm(x: Any, name: str) -> Any:
        x = layers.BatchNormalization(momentum=0.95, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    image = keras.Input((8, 8, 1), name="image")
    x = norm(layers.Conv2D(32, 3, padding="same", use_bias=False, name="stem")(image), "stem")
    for block, (filters, stride) in enumerate(((64, 2), (64, 1)), 1):
        name = f"block{block}"
        x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
        x = norm(x, f"{name}_depthwise")
        x = norm(layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_pointwise")(x), f"{name}_pointwise")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.1, name="dropout")(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="digits_cnn")


def shifted(images: np.ndarray, labels: np.ndarray, batch: int, rng: np.random.Generator) -> Iterator[tuple]:
    """Shuffled batches for ever, each image shifted by up to one pixel."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows: Any = np.lib.stride_tricks.sliding_window_view(padded, (8, 8), axis=(1, 2))  # type: ignore[call-overload]
    while True:
        order = rng.permutation(len(images))
        for start in range(0, len(order) - batch + 1, batch):
            chosen = order[start : start + batch]
            dy, dx = rng.integers(0, 3, (2, batch))
            yield windows[chosen, dy, dx].transpose(0, 2, 3, 1), labels[chosen]


def main(argv: list[str]) -> None:
    """Trains and saves."""
    del argv
    data = datasets.digits.arrays("train", hold_out=False)
    train("cnn", cnn, data, datasets.digits.arrays("test"), shifted, FLAGS.epochs)


if __name__ == "__main__":
    app.run(main)
