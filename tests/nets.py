"""Small real nets that several test files share. TensorFlow is imported on use."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfq_pipeline.data import Batch, Data


def mixed_net(size: int = 12) -> Any:
    """Convolution, depthwise, residual, concatenation, a batch norm of its own, pooling, dense, softmax; random
    statistics."""
    import tf_keras

    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(3)
    image = x = tf_keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.ReLU(6.0, name="stem_relu6")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.BatchNormalization(name="depthwise_bn")(y)
    y = layers.Activation("relu", name="depthwise_relu")(y)
    y = layers.Conv2D(8, 1, name="project")(y)
    y = layers.BatchNormalization(name="project_bn")(y)
    x = layers.Add(name="residual")([x, y])
    x = layers.ReLU(name="residual_relu")(x)
    x = layers.BatchNormalization(name="lone_bn")(x)
    z = layers.Conv2D(4, 1, activation="relu", name="side")(x)
    x = layers.Concatenate(name="join")([x, z])
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(16, activation="relu", name="hidden")(x)
    x = layers.Dense(5, name="logits")(x)
    x = layers.Softmax(name="probabilities")(x)
    model = tf_keras.Model(image, x, name="mixed")
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if layer.name.endswith("_bn"):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def images(count: int = 96, size: int = 12, batch: int = 40, classes: int = 5, seed: int = 0) -> Data:
    """Random images [count, size, size, 3] in 0..1 whose brightest third of the rows decides the label."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, (count, size, size, 3)).astype(np.float32)
    y = rng.integers(0, classes, count).astype(np.int32)
    x[np.arange(count), y] += 1.0

    def batches() -> Any:
        for start in range(0, count, batch):
            yield Batch((x[start : start + batch],), y[start : start + batch])

    return Data("images", batches, count)


def keras3_net() -> Any:
    """A Keras 3 net of four classes for images [12, 12, 1]: convolution, batch norm, depthwise, residual, pooling,
    dense; random statistics."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(5)
    image = keras.Input((12, 12, 1), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(image)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.ReLU(6.0, name="stem_relu6")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Add(name="residual")([x, y])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, layers.Dense(4, name="logits")(x), name="small")
    rng = np.random.default_rng(2)
    bn = model.get_layer("stem_bn")
    bn.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in bn.get_weights()])
    return model


def grey_images(count: int = 48, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Random images float32 [count, 12, 12, 1] in 0..1 for `keras3_net`, and a class from 0 to 3 for each."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 1, (count, 12, 12, 1)).astype(np.float32), rng.integers(0, 4, count)
