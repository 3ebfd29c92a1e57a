"""Patches times weight rows are the convolutions of TensorFlow, and moments those of the patches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import LinearOp
from tfq_pipeline.passes.patches import count_patches, kernel_of, patches, weight_rows


def linear(op: str, kernel: np.ndarray, axis: int, **window) -> LinearOp:
    return LinearOp("layer", op, op, kernel.astype(np.float32), None, axis, "in", "out", **window)


def product(op: LinearOp, x: np.ndarray) -> np.ndarray:
    """[patches, channels]"""
    rows = patches(op, x) @ weight_rows(op, op.kernel, x.shape[-1]).transpose(0, 2, 1)
    return rows.transpose(1, 0, 2).reshape(rows.shape[1], -1)


WINDOWS = st.tuples(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.sampled_from(["SAME", "VALID"])
)


@settings(deadline=None, max_examples=40)
@given(WINDOWS, st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_a_convolution_is_that_of_tensorflow(window, count, seed):
    import tensorflow as tf

    height, width, stride, dilation, padding = window
    stride = 1 if dilation > 1 else stride
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 7, 8, 4)).astype(np.float32)
    kernel = rng.normal(size=(8, height, width, 4 // count)).astype(np.float32)
    op = linear("CONV_2D", kernel, 0, strides=(stride, stride), dilations=(dilation, dilation), padding=padding)
    expected = tf.nn.conv2d(x, kernel.transpose(1, 2, 3, 0), stride, padding, dilations=dilation).numpy()
    np.testing.assert_allclose(product(op, x), expected.reshape(-1, 8), atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(WINDOWS, st.integers(1, 2), st.integers(0, 99))
def test_a_depthwise_convolution_is_that_of_tensorflow(window, multiplier, seed):
    import tensorflow as tf

    height, width, stride, dilation, padding = window
    stride = 1 if dilation > 1 else stride
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 7, 8, 3)).astype(np.float32)
    kernel = rng.normal(size=(1, height, width, 3 * multiplier)).astype(np.float32)
    op = linear(
        "DEPTHWISE_CONV_2D", kernel, 3, strides=(stride, stride), dilations=(dilation, dilation), padding=padding
    )
    filters = kernel.reshape(height, width, 3, multiplier)
    expected = tf.nn.depthwise_conv2d(x, filters, (1, stride, stride, 1), padding, dilations=(dilation, dilation))
    np.testing.assert_allclose(product(op, x), expected.numpy().reshape(-1, 3 * multiplier), atol=1e-4)


def test_a_dense_layer_is_a_product():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(3, 5, 6)).astype(np.float32), rng.normal(size=(4, 6)).astype(np.float32)
    np.testing.assert_allclose(
        product(linear("FULLY_CONNECTED", kernel, 0), x), (x @ kernel.T).reshape(-1, 4), atol=1e-5
    )


@pytest.mark.parametrize(
    ("op", "shape", "axis", "channels"),
    [
        ("CONV_2D", (6, 3, 2, 4), 0, 4),
        ("CONV_2D", (6, 3, 2, 2), 0, 4),
        ("DEPTHWISE_CONV_2D", (1, 3, 2, 8), 3, 4),
        ("FULLY_CONNECTED", (6, 5), 0, 5),
    ],
)
def test_weight_rows_come_back(op, shape, axis, channels):
    kernel = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    layer = linear(op, kernel, axis)
    np.testing.assert_array_equal(kernel_of(layer, weight_rows(layer, kernel, channels)), kernel)


@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
def test_a_convolution_over_a_sequence_is_that_of_keras(padding):
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    layer = tf_keras.layers.Conv1D(5, 3, padding=padding, dilation_rate=2, use_bias=False)
    inputs = tf_keras.Input((12, 4))
    graph = KerasGraph.from_model(tf_keras.Model(inputs, layer(inputs)))
    x = np.random.default_rng(0).normal(size=(3, 12, 4)).astype(np.float32)
    (op,) = graph.linear_ops()
    np.testing.assert_allclose(product(op, x), layer(x).numpy().reshape(-1, 5), atol=1e-5)
    assert count_patches(op, x) == layer(x).shape[0] * layer(x).shape[1]
