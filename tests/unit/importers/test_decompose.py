"""Layers that are taken apart compute what they did, whatever their arguments."""

import numpy as np
import pytest
import tf_keras

from tfq_pipeline.importers import load
from tfq_pipeline.importers.decompose import DECOMPOSITIONS

layers = tf_keras.layers


def sequence(layer, shape=(6, 4)):
    return [tf_keras.Input(shape)], lambda x: layer(x)


def cross_attention(**options):
    def call(a, b, c):
        return layers.MultiHeadAttention(2, 3, value_dim=5, name="apart", **options)(a, b, c)

    return [tf_keras.Input((4, 6)), tf_keras.Input((7, 6)), tf_keras.Input((7, 6))], call


MODELS = {
    "separable, strided": lambda: sequence(layers.SeparableConv1D(5, 3, strides=2, depth_multiplier=2)),
    "separable, causal": lambda: sequence(layers.SeparableConv1D(5, 3, padding="causal", dilation_rate=2)),
    "depthwise, dilated": lambda: sequence(layers.DepthwiseConv1D(3, padding="same", dilation_rate=2)),
    "depthwise, strided": lambda: sequence(layers.DepthwiseConv1D(3, padding="same", strides=2, activation="relu")),
    "transposed": lambda: sequence(layers.Conv1DTranspose(5, 4, strides=3, output_padding=1)),
    "transposed, unknown length": lambda: sequence(layers.Conv1DTranspose(5, 4, strides=2, padding="same"), (None, 4)),
    "einsum to heads": lambda: sequence(layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")),
    "einsum from heads": lambda: sequence(layers.EinsumDense("abcd,cde->abe", (None, 3), bias_axes="e"), (5, 2, 4)),
    "einsum, one bias a head": lambda: sequence(layers.EinsumDense("...c,cde->...de", (2, 3), bias_axes="d")),
    "attention to others": cross_attention,
    "attention without biases": lambda: cross_attention(use_bias=False),
    "layer norm": lambda: sequence(layers.LayerNormalization(epsilon=1e-2)),
    "layer norm without parameters": lambda: sequence(layers.LayerNormalization(center=False, scale=False)),
    "LSTM": lambda: sequence(layers.LSTM(3)),
    "LSTM, all steps": lambda: sequence(layers.LSTM(3, return_sequences=True, go_backwards=True, use_bias=False)),
    "LSTM, other activations": lambda: sequence(layers.LSTM(3, activation="relu", recurrent_activation="hard_sigmoid")),
    "GRU": lambda: sequence(layers.GRU(3, return_sequences=True)),
    "GRU, reset before": lambda: sequence(layers.GRU(3, reset_after=False)),
    "GRU without biases": lambda: sequence(layers.GRU(3, use_bias=False)),
    "simple": lambda: sequence(layers.SimpleRNN(3)),
    "both ways": lambda: sequence(layers.Bidirectional(layers.LSTM(3, return_sequences=True), merge_mode="ave")),
    "both ways, other backwards": lambda: sequence(
        layers.Bidirectional(layers.GRU(3), backward_layer=layers.SimpleRNN(3, go_backwards=True))
    ),
}


def with_values(model):
    """Biases and shifts are 0 at first, which would hide what is left out."""
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.uniform(-0.5, 0.5, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_what_is_taken_apart_computes_what_it_did(make):
    inputs, call = make()
    model = with_values(tf_keras.Model(inputs, call(*inputs)))
    port = load(model).model
    assert not {type(layer).__name__ for layer in port.layers} & DECOMPOSITIONS.keys()
    rng = np.random.default_rng(1)
    x = [rng.normal(size=(3, *(n or 9 for n in i.shape[1:]))).astype(np.float32) for i in inputs]
    np.testing.assert_allclose(port(x if len(x) > 1 else x[0]), model(x if len(x) > 1 else x[0]), atol=2e-6)


def test_a_shared_layer_shares_the_weights_of_its_parts():
    lstm = layers.LSTM(3)
    a, b = tf_keras.Input((4, 2)), tf_keras.Input((4, 2))
    port = load(with_values(tf_keras.Model([a, b], layers.Add()([lstm(a), lstm(b)])))).model
    assert [len(layer._inbound_nodes) for layer in port.layers if type(layer).__name__ == "Dense"] == [2, 8]


KEPT = {
    "masked": lambda x: layers.LSTM(3)(layers.Masking()(x)),
    "state": lambda x: layers.LSTM(3, return_state=True)(x)[1],
    "causal": lambda x: layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True),
    "shares": lambda x: layers.MultiHeadAttention(2, 3)(x, x, return_attention_scores=True)[1],
    "other axis": lambda x: layers.LayerNormalization(axis=1)(x),
    "sum in the middle": lambda x: layers.EinsumDense("abc,bd->adc", (3, None))(x),
}


@pytest.mark.parametrize("call", KEPT.values(), ids=KEPT)
def test_what_cannot_be_taken_apart_stays_as_it_is(call):
    x = tf_keras.Input((6, 4))
    model = tf_keras.Model(x, call(x))
    port = load(model).model
    assert {type(layer).__name__ for layer in port.layers} & DECOMPOSITIONS.keys()
    given = np.random.default_rng(1).normal(size=(3, 6, 4)).astype(np.float32)
    np.testing.assert_allclose(port(given), model(given), atol=2e-6)


class Cumulative(tf_keras.layers.Layer):
    """What the importer cannot follow: a loop over the batch."""

    def call(self, x):
        import tensorflow as tf

        return tf.map_fn(lambda row: tf.cumsum(row), x)


def test_the_user_says_what_a_custom_layer_is():
    x = tf_keras.Input((6,))
    shared = Cumulative(name="sums")
    model = with_values(tf_keras.Model(x, layers.Dense(3)(shared(shared(x)))))
    seen = []

    def as_dense(layer):
        seen.append(layer.name)
        made = layers.Dense(6, use_bias=False)
        made.build((None, 6))
        made.set_weights([np.triu(np.ones((6, 6), np.float32))])
        return made

    port = load(model, {"Cumulative": as_dense}).model
    assert seen == ["sums"]
    assert [type(layer).__name__ for layer in port.layers] == ["InputLayer", "Dense", "Dense"]
    given = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
    np.testing.assert_allclose(port(given), model(given), atol=2e-6)
