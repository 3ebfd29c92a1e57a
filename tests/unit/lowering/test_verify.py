"""The gate on the difference to the fake-quantized model: what rounding explains passes, a wrong integer does not."""

import pytest
import tf_keras

from tests.nets import images, mixed_net
from tests.unit.lowering.test_lower import planned
from tfq_pipeline.errors import GateFailed
from tfq_pipeline.lowering.lower import lower
from tfq_pipeline.lowering.reference import fake_quantized
from tfq_pipeline.lowering.verify import compared_tensors, longest_path, verify
from tfq_pipeline.tflite import flatbuffer as fb

layers = tf_keras.layers


def magnifying_net():
    """Large weights that nearly cancel, clipped behind: a step of what they read, where a mean was rounded the other
    way, is many of what they write."""
    tf_keras.utils.set_random_seed(5)
    image = tf_keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(8, 3, activation="relu", name="stem")(image)
    x = layers.Conv2D(8, 1, name="steep")(layers.AveragePooling2D(2, name="pool")(x))
    x = layers.Flatten(name="flat")(layers.ReLU(6.0, name="relu6")(x))
    model = tf_keras.Model(image, layers.Dense(5, name="logits")(x))
    steep = model.get_layer("steep")
    kernel, bias = steep.get_weights()
    steep.set_weights([500.0 * (kernel - kernel.mean(axis=2, keepdims=True)), bias + 3.0])
    return model


def moved(data: bytes, steps: float) -> bytes:
    """The file with the first output of its last dense layer moved by `steps` of the output."""
    model = fb.read(data)
    op = [op for op in fb.ops(model) if op.name == "FULLY_CONNECTED"][-1]
    source, weights, bias = op.inputs[:3]
    step = float(fb.scales(source)[0]) * float(fb.scales(weights)[0])
    values = fb.array(model, bias).copy()
    values[0] += round(steps * float(fb.scales(op.outputs[0])[0]) / step)
    fb.set_array(model, bias, "INT32", values)
    return fb.pack(model)


def checked(net, steps: float = 0.0):
    graph, plan = planned(net, images(), 8)
    data = moved(lower(graph, plan, "int8", "int8", {}), steps)
    return data, verify(data, graph, plan, fake_quantized(graph, plan), images(), require_integer=True)


def test_a_wrong_integer_is_found():
    data, result = checked(mixed_net())
    model = fb.read(data)
    assert result.limit_lsb == longest_path(model)
    assert len(compared_tensors(model)) == 1
    with pytest.raises(GateFailed, match=rf"steps, where rounding explains {result.limit_lsb};"):
        checked(mixed_net(), 2.0 * result.limit_lsb + 1.0)


def test_a_model_that_magnifies_rounding_has_a_wider_limit_that_still_holds():
    data, result = checked(magnifying_net())
    assert result.limit_lsb > longest_path(fb.read(data))
    assert result.max_abs_error_lsb <= result.limit_lsb
    with pytest.raises(GateFailed, match="steps, where rounding explains"):
        checked(magnifying_net(), 2.0 * result.limit_lsb + 1.0)
