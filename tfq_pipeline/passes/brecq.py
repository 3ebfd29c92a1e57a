"""BRECQ (Li 2021, arXiv:2102.05426): learns how to round all weights of a block together.

The soft rounding and its regularizer are AdaRound's (see `adaround`); the loss is the error of the block's output,
weighted by the squared gradient of the answer where the graph has gradients. Biases are learned along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tfq_pipeline.passes.adaround import GAMMA, WARM, ZETA, steepness, variable
from tfq_pipeline.passes.bias_tuning import bias_units
from tfq_pipeline.passes.block_reconstruct import Layers, Samples, error
from tfq_pipeline.passes.blocks import Block

_RATE = 0.02
_REGULARIZER = 0.02
_BATCH = 32


def brecq(
    block: Block,
    layers: Layers,
    samples: Samples,
    rng: np.random.Generator,
    progress: Callable[[], None],
    steps: int = 1000,
) -> Layers:
    """See `block_reconstruct.Tuner`; weights take the integer below or above, next to the one that the plan has.

    Args:
        block, layers, samples, rng, progress: as there.
        steps: of Adam; it stops early once every weight has decided.
    """
    import tensorflow as tf
    import tf_keras

    rounded = {name: layer for name, layer in layers.items() if not layer.planned.is_float}
    floors, soft, limits, scales, zeros = {}, {}, {}, {}, {}
    for name, layer in rounded.items():
        limits[name] = tuple(of.astype(np.float32) for of in layer.planned.limits(layer.op.kernel.shape))
        scales[name], zeros[name] = layer.planned.grid(layer.op.kernel.shape)
        real = (layer.op.kernel - zeros[name]) / scales[name]
        now = layer.planned.integers(layer.op.kernel).astype(np.float32)
        floors[name] = now - (real < now)
        rest = np.clip(real - floors[name], 0.0, 1.0)
        # Halfway to an integer that was chosen: it was for a reason.
        begin = rest if layer.planned.values is None else 0.5 * (rest + now - floors[name])
        soft[name] = tf.Variable(variable(begin).astype(np.float32))
    units = bias_units(block, layers, samples)
    shifts = {name: tf.Variable(np.zeros_like(layer.bias)) for name, layer in layers.items()}
    count = sum(v.shape.num_elements() for v in soft.values())
    worth = count / max(error(block, layers, samples), 1e-12)
    power = float(np.mean(samples.importance * samples.output**2, dtype=np.float64))
    variables = [*soft.values(), *shifts.values()]
    optimizer = tf_keras.optimizers.Adam(_RATE)
    optimizer.build(variables)
    inputs, outputs, importance = map(tf.constant, (samples.input, samples.output, samples.importance))

    def h(v: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(tf.sigmoid(v) * (ZETA - GAMMA) + GAMMA, 0.0, 1.0)

    @tf.function(autograph=False)
    def step(chosen: tf.Tensor, beta: tf.Tensor, regularizer: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            weights = {name: (layer.kernel, layer.bias) for name, layer in layers.items()}
            undecided = []
            for name, v in soft.items():
                up = h(v)
                kernel = tf.clip_by_value(floors[name] + up, *limits[name]) * scales[name] + zeros[name]
                weights[name] = (kernel, layers[name].bias + shifts[name] * units[name])
                undecided.append(tf.reduce_sum(1.0 - tf.abs(2.0 * up - 1.0) ** beta))
            given = block.run(tf.gather(inputs, chosen), weights)[block.output]
            lost = tf.gather(importance, chosen) * tf.square(given - tf.gather(outputs, chosen))
            loss = worth / power * tf.reduce_mean(lost) + regularizer * tf.add_n(undecided)
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return tf.add_n([tf.reduce_sum(tf.cast((h(v) > 0.0) & (h(v) < 1.0), tf.int32)) for v in soft.values()])

    size = min(_BATCH, len(samples.input))
    for done in range(1, steps + 1):
        share = done / steps
        warm = share <= WARM
        chosen = rng.choice(len(samples.input), size, replace=False)
        left = step(
            tf.constant(chosen),
            tf.constant(2.0 if warm else steepness(share)),
            tf.constant(0.0 if warm else _REGULARIZER),
        )
        if done % 50 == 0:
            progress()
            if not warm and int(left) == 0:
                break
    return {
        **layers,
        **{
            name: replace(
                layer,
                planned=replace(
                    layer.planned,
                    values=np.clip(floors[name] + (soft[name].numpy() > 0.0), *limits[name]).astype(np.int8),
                ),
                bias=layer.bias + shifts[name].numpy() * units[name],
            )
            for name, layer in rounded.items()
        },
    }
