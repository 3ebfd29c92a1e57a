"""The Keras backend of Graph: folds keep outputs, weights read in TFLite's layout, scales are told as TFLite has
them."""

import re

import numpy as np
import pytest
import tf_keras

from tests.nets import images, mixed_net
from tfq_pipeline.data import Batch, Data
from tfq_pipeline.errors import UnsupportedLayer
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Weights

layers = tf_keras.layers


@pytest.fixture(scope="module")
def model():
    return mixed_net()


@pytest.fixture(scope="module")
def graph(model):
    return KerasGraph.from_model(model)


def random_statistics(model, seed=1):
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def folded_equals(model, x, tolerance=2e-6):
    graph = KerasGraph.from_model(model).fold_batch_norm()
    assert graph.batch_norms() == ()
    expected = model(x, training=False).numpy()
    np.testing.assert_allclose(graph.run([x])[0], expected, atol=tolerance * max(1.0, np.abs(expected).max()))
    return graph


def test_folding_keeps_the_outputs_and_leaves_no_batch_norm(model):
    x = next(iter(images()))
    graph = folded_equals(model, x.inputs[0])
    assert {op.name for op in graph.linear_ops()} >= {"stem", "depthwise", "project", "side", "hidden", "logits"}


def test_a_lone_batch_norm_between_relus_becomes_a_depthwise_convolution():
    image = tf_keras.Input((6, 6, 4))
    x = layers.ReLU()(layers.Conv2D(4, 3)(image))
    x = layers.ReLU()(layers.BatchNormalization(name="lone")(layers.Add()([x, x])))
    model = random_statistics(tf_keras.Model(image, x))
    graph = folded_equals(model, np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype(np.float32))
    lone = next(op for op in graph.linear_ops() if op.name == "lone")
    assert lone.op == "DEPTHWISE_CONV_2D"
    assert lone.kernel.shape == (1, 1, 1, 4)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_batch_norm_before_a_convolution_folds_forward_only_where_padding_allows(padding):
    image = tf_keras.Input((6, 6, 4))
    x = layers.MaxPooling2D(1)(image)
    x = layers.Conv2D(5, 3, padding=padding, name="conv")(layers.BatchNormalization(name="before")(x))
    model = random_statistics(tf_keras.Model(image, x))
    graph = folded_equals(model, np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype(np.float32))
    names = {op.name for op in graph.linear_ops()}
    assert names == ({"conv"} if padding == "valid" else {"before", "conv"})


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.Conv2DTranspose(3, 3, strides=2, padding="same"),
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        lambda: layers.Conv2D(6, 3, groups=2, use_bias=False),
        lambda: layers.Conv2D(3, 3, dilation_rate=2, use_bias=False),
    ],
)
def test_every_linear_layer_folds_backward(layer):
    image = tf_keras.Input((9, 9, 4))
    model = random_statistics(tf_keras.Model(image, layers.BatchNormalization()(layer()(image))))
    folded_equals(model, np.random.default_rng(0).normal(size=(2, 9, 9, 4)).astype(np.float32))


def test_rescaling_folds_into_the_first_convolution_or_becomes_one():
    image = tf_keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="valid", name="conv")(layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(image))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    graph = folded_equals(tf_keras.Model(image, x), pixels)
    assert [op.name for op in graph.linear_ops()] == ["conv"]


def test_a_batch_norm_of_another_axis_is_refused_by_name():
    image = tf_keras.Input((8, 8, 3))
    model = tf_keras.Model(image, layers.BatchNormalization(axis=1, name="rows")(image))
    with pytest.raises(UnsupportedLayer, match=r"layer 'rows' \(BatchNormalization\).*channels last"):
        KerasGraph.from_model(model).fold_batch_norm()


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (layers.LSTM(3, name="odd"), "is unrolled without masks, .* known length up to 64 alone"),
        (layers.Activation("softplus", name="odd"), "softplus has no integer operator, docs/importers.md lists"),
    ],
)
def test_a_layer_without_an_integer_operator_says_so(layer, why):
    rows = tf_keras.Input((8, 4))
    (tensor,) = KerasGraph.from_model(tf_keras.Model(rows, layer(rows))).tensors()[1:]
    assert tensor.name == "odd"
    assert re.search(why, tensor.float_only)


def test_relu_moves_into_the_layer_before_it_unless_others_read_that_layer():
    image = tf_keras.Input((4, 4, 2))
    shared = layers.Conv2D(2, 1, name="shared")(image)
    x = layers.Add()([shared, layers.ReLU(name="kept")(shared)])
    x = layers.ReLU(6.0, name="fused")(layers.Conv2D(2, 1, name="conv")(x))
    graph = KerasGraph.from_model(tf_keras.Model(image, x))
    assert graph.layer("conv").config["activation"] == "relu6"
    assert "fused" not in graph.net.layers
    assert "kept" in graph.net.layers


def test_kernels_read_in_tflite_layout_and_write_back(graph):
    updates = {op.name: Weights(op.kernel * 2, op.bias) for op in graph.linear_ops()}
    twice = graph.with_weights(updates)
    for before, after in zip(graph.linear_ops(), twice.linear_ops(), strict=True):
        np.testing.assert_array_equal(after.kernel, before.kernel * 2)
        np.testing.assert_array_equal(twice.layer(before.name).weights[0], graph.layer(before.name).weights[0] * 2)
    stem = next(op for op in graph.linear_ops() if op.name == "stem")
    np.testing.assert_array_equal(stem.kernel[5, 1, 2, 0], graph.layer("stem").weights[0][1, 2, 0, 5])


def test_tensors_tell_shared_and_fixed_scales(graph):
    tensors = {t.name: t for t in graph.fold_batch_norm().tensors()}
    assert tensors["pool"].same_scale_as == "join"
    assert tensors["flat"].same_scale_as == "pool"
    assert tensors["join"].joined == ("lone_bn", "side")
    assert tensors["probabilities"].fixed == (1 / 256, -128)
    assert "residual" not in tensors, "ADD and the ReLU behind it are one operator"
    assert "residual_relu" in tensors


def test_capture_streams_what_the_model_computes(graph, model):
    data = images(50, batch=20)
    probe = tf_keras.Model(model.input, model.get_layer("join").output)
    sizes = []
    for values, batch in zip(graph.capture(["join", "image"], data), data, strict=True):
        np.testing.assert_allclose(values["join"], probe(batch.inputs[0]).numpy(), atol=1e-5)
        np.testing.assert_array_equal(values["image"], batch.inputs[0])
        sizes.append(len(batch))
    assert sizes == [20, 20, 10]


def test_a_shared_layer_is_one_operator_and_its_calls_come_together():
    left, right = tf_keras.Input((4,), name="left"), tf_keras.Input((4,), name="right")
    dense = layers.Dense(3, name="twin")
    model = tf_keras.Model([left, right], layers.Subtract()([dense(left), dense(right)]))
    graph = KerasGraph.from_model(model)
    assert [op.name for op in graph.linear_ops()] == ["twin"]
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 4)).astype(np.float32)
    data = Data("pair", lambda: iter([Batch((a, b))]), 5)
    (values,) = graph.capture(["twin"], data)
    kernel, bias = dense.get_weights()
    np.testing.assert_allclose(values["twin"], np.concatenate([a, b]) @ kernel + bias, atol=1e-5)
    np.testing.assert_allclose(graph.run([a, b])[0], (a - b) @ kernel, atol=1e-5)
