"""Every kind of model that is trained ends in an integer file that computes what the trained model computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfq_pipeline as tfq
from tfq_pipeline import recipe
from tfq_pipeline.data import Batch, Data
from tfq_pipeline.errors import UnsupportedLayer

new, old = keras.layers, tf_keras.layers

CLASSES = 4


def classified(k, image, x):
    if len(x.shape) > 2:
        x = k.layers.Flatten()(x)
    model = k.Model(image, k.layers.Dense(CLASSES, name="logits")(x))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


class Mixer(keras.layers.Layer):
    """A custom layer made of an own weight and operations."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 6), name="kernel")

    def call(self, x):
        return keras.ops.relu(keras.ops.matmul(x, self.kernel) + 0.1)


def nested_and_shared():
    def tower():
        x = new.Input((6, 6, 4))
        y = new.ReLU()(new.BatchNormalization()(new.Conv2D(4, 3, padding="same")(x)))
        return keras.Model(x, y, name="tower")

    a, b = new.Input((6, 6, 4), name="a"), new.Input((6, 6, 4), name="b")
    shared, inner = new.Conv2D(4, 3, padding="same", name="shared"), tower()
    head = keras.Sequential([new.Input((6, 6, 8)), new.DepthwiseConv2D(3), new.Conv2D(6, 1, activation="relu")])
    x = new.Concatenate()([inner(shared(shared(a))), shared(inner(b))])
    return classified(keras, [a, b], Mixer()(new.Flatten()(head(x))))


def norms_anywhere():
    image = new.Input((6, 6, 3))
    x = new.Rescaling(2.0, offset=-1.0)(image)
    x = new.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = new.BatchNormalization(name="after_relu")(x)
    y = new.Conv2D(4, 3)(new.BatchNormalization(name="before_conv")(x))
    x = new.Add()([y, new.Cropping2D(1)(x)])
    x = new.ReLU()(new.BatchNormalization(name="after_add")(x))
    x = new.Dense(6, activation="relu")(new.Flatten()(x))
    x = new.Add()([x, new.Dense(6)(x)])
    return classified(keras, image, new.ReLU()(new.BatchNormalization(name="of_rows")(x)))


def arithmetic():
    image = tf_keras.Input((6, 6, 3))
    x = old.Conv2D(4, 3, padding="same")(image)
    x = tf.nn.relu(x)[:, 1:, :, :3] * 0.5 + 1.0 - image[:, 1:] / 2.0
    x = tf.reduce_mean(x, [1, 2])
    return classified(tf_keras, image, tf.concat([x, -x], axis=-1))


def mobile():
    image = new.Input((6, 6, 3))
    x = new.Conv2D(8, 3, padding="same", activation="hard_swish")(image)
    y = new.GlobalAveragePooling2D(keepdims=True)(x)
    y = new.Conv2D(4, 1, activation="relu")(y)
    x = new.Multiply()([x, new.Conv2D(8, 1, activation="hard_sigmoid")(y)])
    x = new.BatchNormalization()(new.SeparableConv2D(6, 3, padding="same", activation="relu")(x))
    return classified(keras, image, x)


def gated_by_sigmoid():
    image = tf_keras.Input((6, 6, 3))
    x = old.Conv2D(8, 3, padding="same", activation="swish")(image)
    y = old.Reshape((1, 1, 8))(old.GlobalAveragePooling2D()(x))
    x = old.Multiply()([x, old.Dense(8, activation="sigmoid")(y)])
    return classified(tf_keras, image, x)


def upwards():
    image = new.Input((4, 4, 3))
    x = new.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")(image)
    x = new.Conv2DTranspose(4, 3, use_bias=False)(new.BatchNormalization()(x))
    x = new.ReLU()(new.BatchNormalization()(x))
    return classified(keras, image, new.AveragePooling2D(2)(new.UpSampling2D(2, interpolation="bilinear")(x)))


def one_dimension():
    row = new.Input((12, 3))
    x = new.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu")(row)
    x = new.MaxPooling1D(2)(new.BatchNormalization()(x))
    x = new.SeparableConv1D(6, 3, padding="same", activation="relu")(x)
    x = new.Conv1DTranspose(4, 3, strides=2, padding="same")(new.BatchNormalization()(x))
    return classified(keras, row, new.GlobalAveragePooling1D()(new.ReLU()(x)))


def attention():
    words = new.Input((6,), dtype="int32")
    x = new.Embedding(20, 8)(words)
    x = new.LayerNormalization()(new.Add()([x, new.MultiHeadAttention(2, 4)(x, x)]))
    return classified(keras, words, new.GlobalAveragePooling1D()(new.Dense(8, activation="gelu")(x)))


def attention_of_keras_2():
    rows = tf_keras.Input((5, 8))
    x = old.Add()([rows, old.MultiHeadAttention(2, 4)(rows, rows)])
    return classified(tf_keras, rows, old.GlobalAveragePooling1D()(x))


def recurrent():
    rows = tf_keras.Input((2, 6))
    return classified(tf_keras, rows, old.Bidirectional(old.LSTM(4))(rows))


# Models with operators that their files have to have, beside those of convolutions and dense layers.
MODELS = {
    nested_and_shared: {"CONCATENATION"},
    norms_anywhere: {"ADD"},
    arithmetic: {"STRIDED_SLICE", "MUL", "SUB", "MEAN"},
    mobile: {"HARD_SWISH", "MUL"},
    gated_by_sigmoid: {"LOGISTIC", "MUL"},
    upwards: {"TRANSPOSE_CONV", "RESIZE_BILINEAR", "AVERAGE_POOL_2D"},
    one_dimension: {"DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"},
    attention: {"GATHER", "BATCH_MATMUL", "SOFTMAX", "RSQRT", "GELU"},
    attention_of_keras_2: {"BATCH_MATMUL", "SOFTMAX"},
    recurrent: {"LOGISTIC", "TANH", "CONCATENATION"},
}


def samples(inputs, count=64):
    rng = np.random.default_rng(0)
    drawn = {"int32": lambda shape: rng.integers(0, 20, shape).astype(np.int32)}
    x = tuple(
        drawn.get(i.dtype, lambda shape: rng.uniform(0, 1, shape).astype(np.float32))((count, *i.shape)) for i in inputs
    )
    y = rng.integers(0, CLASSES, count).astype(np.int32)
    return Data("drawn", lambda: iter([Batch(tuple(a[i : i + 32] for a in x), y[i : i + 32]) for i in (0, 32)]), count)


def trained(model, rules="[]"):
    """A model trained at 4 bits on random labels: weights and ranges move far."""
    text = f"""version: 1
passes:
  - fold_batch_norm
  - calibrate: {{method: moving_average, samples: 64}}
  - quantize: {{weights: {{bits: 4}}, rules: {rules}}}
  - qat: {{epochs: 2, batch_size: 32, learning_rate: 1e-2, momentum: 0.5}}
  - convert
"""
    prepared = tfq.prepare(model)
    data = samples(prepared.opened.graph.inputs)
    return tfq.quantize(prepared, recipe.parse(text, "test", "test"), train=data, data=data), prepared


@pytest.mark.parametrize(("make", "operators"), MODELS.items(), ids=[make.__name__ for make in MODELS])
def test_a_model_ends_in_an_integer_file_that_equals_the_trained_model(make, operators):
    # Verification fails on a difference that rounding does not explain.
    result, prepared = trained(make())
    found, verified = result.document["inspect"], result.document["verification"]
    assert found["float_ops"] == found["unfolded_batch_norms"] == 0
    assert operators <= found["ops"].keys()
    assert verified["test"]["argmax_agreement"] >= 0.95
    assert verified["max_abs_error_lsb"] <= verified["limit_lsb"]
    assert verified["mean_abs_error_lsb"] < 1.0
    before = {op.name: op.kernel for op in prepared.opened.graph.fold_batch_norm().linear_ops()}
    assert all(not np.array_equal(op.kernel, before[op.name]) for op in result.graph.linear_ops())


def with_softplus():
    image = new.Input((6, 6, 3))
    x = new.Conv2D(4, 3, activation="softplus", name="stem")(image)
    x = new.DepthwiseConv2D(3, activation="relu", name="middle")(x)
    return classified(keras, image, x)


def test_a_layer_without_an_integer_operator_is_refused_by_name_cause_and_mend():
    wanted = r"layer 'stem_softplus' \(Activation\): softplus has no integer operator.*; replace it, or leave it float"
    with pytest.raises(UnsupportedLayer, match=wanted):
        trained(with_softplus())


@pytest.mark.parametrize("match", ["name: stem_soft*", "type: Activation"])
def test_layers_are_chosen_by_name_type_and_operator(match):
    rules = f"[{{match: {{{match}}}, skip: true}}, {{match: {{op: DEPTHWISE_CONV_2D}}, weights: {{bits: 8}}}}]"
    result, _ = trained(with_softplus(), rules)
    assert {name: t.bits for name, t in result.plan.weights.items()} == {"stem": 4, "middle": 8, "logits": 4}
    assert result.plan.floats == {"stem_softplus"}
    assert result.document["inspect"]["float_ops"] > 0
    assert result.document["verification"]["test"]["argmax_agreement"] >= 0.95


def with_causal_attention():
    sequence = old.Input((6, 4))
    x = old.Dense(8, name="stem")(sequence)
    x = old.MultiHeadAttention(2, 4, name="attention")(x, x, use_causal_mask=True)
    return classified(tf_keras, sequence, x)


def test_a_layer_that_is_left_whole_keeps_its_own_linear_operators_float():
    result, _ = trained(with_causal_attention(), "[{match: {name: attention}, skip: true}]")
    assert {name: t.bits for name, t in result.plan.weights.items()} == {"stem": 4, "logits": 4}
    weights = result.document["inspect"]["weights"]
    assert sorted(entry["bits"] for entry in weights if entry["op"] == "FULLY_CONNECTED") == [4, 4, 32, 32, 32, 32]
    assert result.document["verification"]["test"]["argmax_agreement"] >= 0.95
