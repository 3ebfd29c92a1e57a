"""Affine parameters and values against TensorFlow's FakeQuant operators and the TFLite converter."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from tfq_pipeline.numerics.affine import Affine, dequantize, fake_quantize, float_range, from_range, quantize

SEEDS = st.integers(0, 2**32 - 1)


def assert_equal_but_for_ties(found: np.ndarray, affine: Affine, x: np.ndarray) -> None:
    """FakeQuant rounds halves up and derives the scale in float32: at a tie it may be a step away."""
    ours = fake_quantize(x, affine)
    scale = affine.scale.astype(np.float64)
    steps = x / scale
    at_tie = np.abs(np.abs(steps - np.floor(steps)) - 0.5) < 1e-3
    tolerance = np.where(at_tie, scale * 1.001, 0) + 1e-6 * np.abs(found) + 1e-6 * scale
    assert (np.abs(found - ours) <= tolerance).all()


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.sampled_from([4, 8]), st.booleans(), st.booleans())
def test_per_tensor_equals_fake_quant(seed, bits, symmetric, narrow):
    rng = np.random.default_rng(seed)
    low, high = sorted((rng.normal(size=2) * 10 ** rng.uniform(-3, 3)).astype(np.float32))
    affine = from_range(low, high, bits, symmetric=symmetric, narrow=narrow)
    x = rng.uniform(min(low, 0) * 1.2 - 1e-3, max(high, 0) * 1.2 + 1e-3, 500).astype(np.float32)
    nudged_low, nudged_high = float_range(affine)
    found = tf.quantization.fake_quant_with_min_max_vars(x, nudged_low[0], nudged_high[0], bits, narrow).numpy()
    assert_equal_but_for_ties(found, affine, x)


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.sampled_from([4, 8]), st.booleans(), st.booleans())
def test_per_channel_equals_fake_quant(seed, bits, symmetric, narrow):
    rng = np.random.default_rng(seed)
    bounds = np.sort(rng.normal(size=(2, 7)) * 10 ** rng.uniform(-3, 3, 7), axis=0).astype(np.float32)
    affine = from_range(*bounds, bits, symmetric=symmetric, narrow=narrow, axis=-1)
    x = (rng.uniform(-1.2, 1.2, (100, 7)) * np.abs(bounds).max(axis=0)).astype(np.float32)
    found = tf.quantization.fake_quant_with_min_max_vars_per_channel(x, *float_range(affine), bits, narrow).numpy()
    assert_equal_but_for_ties(found, affine, x)


def activation_ranges() -> list[tuple[float, float]]:
    rng = np.random.default_rng(0)
    edges = [(-127.5, 127.5), (-128.0, 127.0), (0.0, 6.0), (-1.0, 1.0), (-3.0, 0.0), (-0.3, 5.0), (-1e-3, 1e-3)]
    drawn = np.sort(rng.normal(size=(20, 2)) * 10 ** rng.uniform(-3, 3, (20, 1)), axis=1).astype(np.float32)
    return edges + [(min(float(low), 0.0), max(float(high), 0.0)) for low, high in drawn]


def converted(function: tf.types.experimental.GenericFunction, module: tf.Module) -> Interpreter:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return Interpreter(model_content=converter.convert())


def test_converter_writes_the_same_activation_parameters():
    ranges = activation_ranges()

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, 4, 4, len(ranges)])])
        def __call__(self, x):
            outputs = {}
            for i, (low, high) in enumerate(ranges):
                y = tf.quantization.fake_quant_with_min_max_vars(x[..., i : i + 1] * 1.0, low, high)
                y = tf.quantization.fake_quant_with_min_max_vars(tf.nn.max_pool2d(y, 2, 2, "VALID"), low, high)
                outputs[f"range_{i:02}"] = y
            return outputs

    model = Model()
    written = {tensor["quantization"] for tensor in converted(model.__call__, model).get_tensor_details()}
    for low, high in ranges:
        affine = from_range(low, high, 8, symmetric=False)
        assert (float(affine.scale[0]), int(affine.zero_point[0])) in written, (low, high)


@pytest.mark.parametrize("bits", [4, 8])
def test_converter_writes_the_same_weights(bits):
    rng = np.random.default_rng(bits)
    channels = 12
    kernel = (rng.normal(size=(3, 3, 5, channels)) * 10 ** rng.uniform(-2, 2, channels)).astype(np.float32)
    magnitude = np.abs(kernel).max(axis=(0, 1, 2))
    affine = from_range(-magnitude, magnitude, bits, symmetric=True, narrow=True, axis=3)
    low, high = float_range(affine)

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, 6, 6, 5])])
        def __call__(self, x):
            x = tf.quantization.fake_quant_with_min_max_vars(x, -1.0, 1.0)
            w = tf.quantization.fake_quant_with_min_max_vars_per_channel(kernel, low, high, bits, narrow_range=True)
            return tf.quantization.fake_quant_with_min_max_vars(tf.nn.conv2d(x, w, 1, "SAME"), -6.0, 6.0)

    model = Model()
    interpreter = converted(model.__call__, model)
    (found,) = (
        tensor
        for tensor in interpreter.get_tensor_details()
        if tensor["quantization_parameters"]["scales"].size == channels and len(tensor["shape"]) == 4
    )
    scales = found["quantization_parameters"]["scales"]
    assert (np.abs(scales - affine.scale) <= np.spacing(affine.scale)).all()
    assert not found["quantization_parameters"]["zero_points"].any()
    if bits == 8:
        stored = np.moveaxis(interpreter.get_tensor(found["index"]), 0, 3)
        np.testing.assert_array_equal(stored, quantize(kernel, affine))
        np.testing.assert_allclose(stored * scales, dequantize(stored, affine), rtol=3e-7)
