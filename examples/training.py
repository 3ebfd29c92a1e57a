"""How example nets are trained: AdamW, half an epoch of warm-up, then a cosine to 0. The file has no optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("output", None, "Where to write the model; by default the net's name with .keras.")
flags.DEFINE_integer("batch_size", 128, "Samples a step.", lower_bound=1)
flags.DEFINE_float("learning_rate", 2e-3, "Peak learning rate; it falls to zero along a cosine.", lower_bound=0.0)
flags.DEFINE_integer("seed", 1, "Seed of the weights, the shuffling and the augmentation.")
flags.DEFINE_integer("threads", 2, "CPU threads.", lower_bound=1)

Batches = Callable[[np.ndarray, np.ndarray, int, np.random.Generator], Iterator[tuple[np.ndarray, np.ndarray]]]


def train(
    name: str,
    build: Callable[[], Any],
    data: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    batches: Batches,
    epochs: int,
    weight_decay: float = 0.02,
) -> None:
    """Trains, measures on the test samples, saves a Keras 3 file.

    Args:
        name: of the net.
        build: makes it.
        data, test: samples [n, ...] and class labels [n].
        batches: of samples, labels, batch size and a source of chance: shuffled and augmented batches for ever.
        epochs: passes over the data.
        weight_decay: AdamW's.
    """
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(FLAGS.seed)
    tf.config.experimental.enable_op_determinism()

    model = build()
    model.summary(print_fn=lambda line: print(line))
    steps = max(1, len(data[0]) // FLAGS.batch_size)
    total = steps * epochs
    warm = max(1, steps // 2)
    rate = keras.optimizers.schedules.CosineDecay(
        FLAGS.learning_rate / 20, total - warm, warmup_target=FLAGS.learning_rate, warmup_steps=warm
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=weight_decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        batches(*data, FLAGS.batch_size, np.random.default_rng(FLAGS.seed)),
        steps_per_epoch=steps,
        epochs=epochs,
        validation_data=test,
        validation_batch_size=500,
        validation_freq=max(1, epochs // 4),
        verbose=2,
    )
    correct = np.argmax(model.predict(test[0], batch_size=500, verbose=0), axis=1) == test[1]
    # A fresh model takes the weights alone, so that neither optimizer nor loss ends up in the file.
    bare = build()
    bare.set_weights(model.get_weights())
    bare.save(FLAGS.output or f"{name}.keras")
    print(f"test accuracy {correct.mean():.4f} on {len(correct)} samples, {bare.count_params()} parameters")
