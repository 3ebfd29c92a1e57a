"""Trains one of the example's nets on Fashion-MNIST and writes a Keras 3 file without optimizer state.

python -m examples.fashion_mnist.train --net mobilenet --output examples/fashion_mnist/mobilenet.keras
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import app, flags

from examples.fashion_mnist.nets import NETS
from tfq_pipeline import datasets

FLAGS = flags.FLAGS
flags.DEFINE_enum("net", "mobilenet", list(NETS), "Which net.")
flags.DEFINE_string("output", None, "Where to write the model; by default the net's name with .keras.")
flags.DEFINE_integer("epochs", 12, "Passes over the 60,000 training images.", lower_bound=1)
flags.DEFINE_integer("batch_size", 128, "Images a step.", lower_bound=1)
flags.DEFINE_float("learning_rate", 2e-3, "Peak learning rate; it falls to zero along a cosine.", lower_bound=0.0)
flags.DEFINE_integer("seed", 1, "Seed of the weights, the shuffling and the augmentation.")
flags.DEFINE_integer("threads", 2, "CPU threads.", lower_bound=1)


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
    """Trains, measures on the 10,000 test images, saves."""
    del argv
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(FLAGS.seed)
    tf.config.experimental.enable_op_determinism()

    images, labels = datasets.fashion_mnist.arrays("train", hold_out=False)
    test_images, test_labels = datasets.fashion_mnist.arrays("test")
    build = NETS[FLAGS.net]
    model = build()
    model.summary(print_fn=lambda line: print(line))
    steps = len(images) // FLAGS.batch_size
    total = steps * FLAGS.epochs
    rate = keras.optimizers.schedules.CosineDecay(
        FLAGS.learning_rate / 20, total - steps // 2, warmup_target=FLAGS.learning_rate, warmup_steps=steps // 2
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    rng = np.random.default_rng(FLAGS.seed)
    model.fit(
        augmented(images, labels, FLAGS.batch_size, rng),
        steps_per_epoch=steps,
        epochs=FLAGS.epochs,
        validation_data=(test_images, test_labels),
        validation_batch_size=500,
        validation_freq=max(1, FLAGS.epochs // 4),
        verbose=2,
    )
    correct = np.argmax(model.predict(test_images, batch_size=500, verbose=0), axis=1) == test_labels
    # A fresh model takes the weights alone, so that neither optimizer nor loss ends up in the file.
    bare = build()
    bare.set_weights(model.get_weights())
    bare.save(FLAGS.output or f"{FLAGS.net}.keras")
    print(f"test accuracy {correct.mean():.4f} on {len(correct)} images, {bare.count_params()} parameters")


if __name__ == "__main__":
    app.run(main)
