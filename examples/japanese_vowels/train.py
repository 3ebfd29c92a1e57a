"""Trains a small net of one-dimensional convolutions on Japanese Vowels and writes a Keras 3 file.

python -m examples.japanese_vowels.train --batch_size 30 --output examples/japanese_vowels/conv1d.keras
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import app, flags

from examples.training import train
from tfq_pipeline import datasets

FLAGS = flags.FLAGS
flags.DEFINE_integer("epochs", 150, "Passes over the 270 training utterances.", lower_bound=1)


def conv1d() -> Any:
    """Series [29, 12] to logits [9]: three convolutions over time with batch norm and ReLU."""
    import keras
    from keras import layers

    series = keras.Input((29, 12), name="series")
    x = series
    for number, (filters, kernel, stride) in enumerate(((48, 5, 1), (64, 3, 2), (64, 3, 1)), 1):
        name = f"conv{number}"
        x = layers.Conv1D(filters, kernel, stride, padding="same", use_bias=False, name=name)(x)
        x = layers.BatchNormalization(momentum=0.95, name=f"{name}_bn")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    x = layers.Dropout(0.3, name="dropout")(x)
    return keras.Model(series, layers.Dense(9, name="logits")(x), name="vowels_conv1d")


def varied(series: np.ndarray, labels: np.ndarray, batch: int, rng: np.random.Generator) -> Iterator[tuple]:
    """Shuffled batches for ever, each series up to two frames later and with a little noise where it has sound."""
    batch = min(batch, len(series))
    padded = np.pad(series, ((0, 0), (2, 0), (0, 0)))
    windows: Any = np.lib.stride_tricks.sliding_window_view(padded, series.shape[1], axis=1)
    while True:
        order = rng.permutation(len(series))
        for start in range(0, len(order) - batch + 1, batch):
            chosen = order[start : start + batch]
            x = windows[chosen, rng.integers(0, 3, batch)].transpose(0, 2, 1)
            noise = rng.normal(0.0, 0.05, x.shape).astype(np.float32)
            yield x + noise * (x != 0), labels[chosen]


def main(argv: list[str]) -> None:
    """Trains and saves."""
    del argv
    data = datasets.japanese_vowels.arrays("train", hold_out=False)
    train("conv1d", conv1d, data, datasets.japanese_vowels.arrays("test"), varied, FLAGS.epochs)


if __name__ == "__main__":
    app.run(main)
