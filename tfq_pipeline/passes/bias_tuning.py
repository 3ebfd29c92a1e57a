"""Bias tuning: learns the biases of a block's quantized layers, integers kept, so that the block computes what it did.

Bias correction puts the mean of each layer's error right, before the activation. A ReLU makes of it another mean, and
layers of a block can make up for each other: here gradients of the block's error see both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tfq_pipeline.passes.block_reconstruct import Layers, Samples
from tfq_pipeline.passes.blocks import Block

_RATE = 0.05
_BATCH = 32

# Steps whose mean loss is compared with the least of those before; where it gained less than this share, the rate is
# halved, so many times.
_WINDOW = 50
_GAIN = 1e-3
_HALVINGS = 4


def bias_units(block: Block, layers: Layers, samples: Samples) -> dict[str, np.ndarray]:
    """What quantized weights change in each channel of an operator, about: the size of a step of its bias.

    Returns:
        float32 [channels] by operator name: the norm of the channel's weight errors times the input's root mean square.
    """
    weights = {name: (layer.kernel, layer.bias) for name, layer in layers.items()}
    values = block.run(samples.input[:_BATCH], weights)
    found = {}
    for name, layer in layers.items():
        axes = tuple(a for a in range(layer.op.kernel.ndim) if a != layer.op.channel_axis % layer.op.kernel.ndim)
        lost = np.sqrt(np.sum((layer.kernel - layer.op.kernel) ** 2, axis=axes))
        size = float(np.sqrt(np.mean(np.square(values[layer.op.input]), dtype=np.float64)))
        found[name] = np.maximum(lost * size, 1e-12).astype(np.float32)
    return found


def bias_tuning(
    block: Block,
    layers: Layers,
    samples: Samples,
    rng: np.random.Generator,
    progress: Callable[[], None],
    steps: int = 2000,
) -> Layers:
    """See `block_reconstruct.Tuner`.

    Args:
        block, layers, samples, rng, progress: as there.
        steps: of Adam at most; it stops once smaller steps gain nothing either.
    """
    import tensorflow as tf
    import tf_keras

    units = bias_units(block, layers, samples)
    tuned = {name: layer for name, layer in layers.items() if not layer.planned.is_float}
    shifts = {name: tf.Variable(np.zeros_like(layer.bias)) for name, layer in tuned.items()}
    optimizer = tf_keras.optimizers.Adam(_RATE)
    optimizer.build(list(shifts.values()))
    power = max(float(np.mean(samples.importance * samples.output**2, dtype=np.float64)), 1e-30)
    fixed = {name: (layer.kernel, layer.bias) for name, layer in layers.items()}
    inputs, outputs, importance = map(tf.constant, (samples.input, samples.output, samples.importance))

    @tf.function(autograph=False)
    def step(chosen: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            moved = {name: (fixed[name][0], fixed[name][1] + shift * units[name]) for name, shift in shifts.items()}
            given = block.run(tf.gather(inputs, chosen), {**fixed, **moved})[block.output]
            lost = tf.gather(importance, chosen) * tf.square(given - tf.gather(outputs, chosen))
            loss = tf.reduce_mean(lost) / power
        variables = list(shifts.values())
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # Adam's step does not depend on the size of the loss but for its epsilon.
        optimizer.apply_gradients((g * 1e6, v) for g, v in zip(gradients, variables, strict=True))
        return loss

    size = min(_BATCH, len(samples.input))
    least, losses, halvings = np.inf, list[float](), 0
    for _ in range(steps):
        losses.append(float(step(tf.constant(rng.choice(len(samples.input), size, replace=False)))))
        if len(losses) == _WINDOW:
            mean = float(np.mean(losses))
            losses.clear()
            progress()
            if mean > (1.0 - _GAIN) * least:
                halvings += 1
                optimizer.learning_rate.assign(_RATE / 2**halvings)
            least = min(least, mean)
            if halvings > _HALVINGS:
                break
    return {
        **layers,
        **{n: replace(layer, bias=layer.bias + shifts[n].numpy() * units[n]) for n, layer in tuned.items()},
    }
