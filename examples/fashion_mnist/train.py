"""Trains the example model: a small MobileNet for Fashion-MNIST, written as a Keras 3 file without optimizer state.

    python examples/fashion_mnist/train.py --output examples/fashion_mnist/mobilenet.keras

The blocks are those of the MobileNet family (Howard 2017, Sandler 2018, and the fused blocks of MobileNetEdgeTPU):
depthwise convolutions, wide 1x1 convolutions, residual additions, BatchNorm after every convolution, ReLU6.
Few wide layers rather than many narrow ones: at 4 bits the scale and bias of a channel weigh as much as 56 weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import app, flags

from tfq_pipeline import datasets

FLAGS = flags.FLAGS
flags.DEFINE_string("output", "mobilenet.keras", "Where to write the model.")
flags.DEFINE_integer("epochs", 12, "Passes over the 60,000 training images.", lower_bound=1)
flags.DEFINE_integer("batch_size", 128, "Images a step.", lower_bound=1)
flags.DEFINE_float("learning_rate", 2e-3, "Peak learning rate; it falls to zero along a cosine.", lower_bound=0.0)
flags.DEFINE_integer("seed", 1, "Seed of the weights, the shuffling and the augmentation.")
flags.DEFINE_integer("threads", 2, "CPU threads.", lower_bound=1)


def build() -> Any:
    """The float model: image [28, 28, 1] in 0..1 to logits [10]."""
    import keras
    from keras import layers

    def norm(x: Any, name: str, activate: bool = True) -> Any:
        x = layers.BatchNormalization(momentum=0.95, name=f"{name}_bn")(x)
        return layers.ReLU(6.0, name=f"{name}_relu6")(x) if activate else x

    def conv(x: Any, filters: int, name: str, kernel: int = 1, stride: int = 1, activate: bool = True) -> Any:
        x = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=name)(x)
        return norm(x, name, activate)

    def depthwise(x: Any, name: str, stride: int = 1) -> Any:
        x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=name)(x)
        return norm(x, name)

    image = keras.Input((28, 28, 1), name="image")
    x = conv(image, 24, "stem", kernel=3, stride=2)
    x = conv(x, 64, "fused", kernel=3)
    y = conv(depthwise(x, "block1_depthwise"), 64, "block1_project", activate=False)
    x = layers.Add(name="block1_add")([x, y])
    x = conv(depthwise(x, "block2_depthwise", stride=2), 96, "block2_project", activate=False)
    x = conv(depthwise(x, "block3_depthwise", stride=2), 160, "block3_project", activate=False)
    y = conv(depthwise(x, "block4_depthwise"), 320, "block4_expand")
    y = conv(y, 160, "block4_project", activate=False)
    x = layers.Add(name="block4_add")([x, y])
    x = conv(x, 320, "head")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.1, name="dropout")(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="fashion_mobilenet")


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
    bare.save(FLAGS.output)
    print(f"test accuracy {correct.mean():.4f} on {len(correct)} images, {bare.count_params()} parameters")


if __name__ == "__main__":
    app.run(main)
