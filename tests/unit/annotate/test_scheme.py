"""The model that TFMOT makes of a plan quantizes exactly as the numpy numerics say."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.nets import images, mixed_net
from tfq_pipeline.annotate.layout import layout
from tfq_pipeline.annotate.quantizers.min_max import MinMaxWeights
from tfq_pipeline.annotate.quantizers.moving_average import MovingAverageActivation
from tfq_pipeline.annotate.scheme import annotate, fake_quantized
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.keras_layers import LINEAR
from tfq_pipeline.numerics.affine import fake_quantize, from_range, weight_range
from tfq_pipeline.numerics.grouping import to_groups
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.plan import Plan, TensorPlan

layers = tf_keras.layers


# Kernels of each kind, and the shape that makes rows of their channels.
KERNELS = [
    ("Conv2D", (3, 3, 4, 6)),
    ("DepthwiseConv2D", (3, 3, 4, 2)),
    ("Dense", (7, 5)),
    ("Conv2DTranspose", (3, 3, 6, 4)),
]


def planned(kind, kernel, bits, granularity="channel", group_size=None):
    """The plan of a Keras kernel, and the kernel in TFLite's layout."""
    w = np.ascontiguousarray(LINEAR[kind].to_tflite(kernel))
    axis = {"tensor": None, "channel": LINEAR[kind].channel_axis, "group": 0}[granularity]
    rows = w if group_size is None else to_groups(w, group_size)
    affine = from_range(*weight_range(rows, axis), bits, symmetric=True, narrow=True, axis=axis)
    return TensorPlan(bits, "uniform", granularity, affine, group_size=group_size), w


def starting(kind, kernel, tensor):
    """The min-max quantizer of a plan."""
    lies = layout("layer", kind, kernel.shape, tensor)
    return MinMaxWeights.starting(tensor.bits, kernel.reshape(lies.view), lies.from_plan(tensor.affine.scale))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize(("kind", "shape"), KERNELS)
def test_weights_land_on_the_planned_grid(bits, granularity, kind, shape):
    kernel = np.random.default_rng(bits).normal(size=shape).astype(np.float32)
    tensor, w = planned(kind, kernel, bits, granularity)
    got = LINEAR[kind].to_tflite(starting(kind, kernel, tensor)(tf.constant(kernel), True, {}).numpy())
    np.testing.assert_allclose(got, tensor.represented(w), atol=1e-6)


def test_groups_land_on_the_planned_grid():
    kernel = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    tensor, w = planned("Dense", kernel, 4, "group", 16)
    got = starting("Dense", kernel, tensor)(tf.constant(kernel), True, {}).numpy().T
    np.testing.assert_allclose(got, tensor.represented(w), atol=1e-6)


@pytest.mark.parametrize(("kind", "shape"), KERNELS)
def test_scales_come_back_in_the_order_of_the_plan(kind, shape):
    tensor, _ = planned(kind, np.random.default_rng(0).normal(size=shape).astype(np.float32), 4)
    lies = layout("layer", kind, shape, tensor)
    np.testing.assert_array_equal(lies.to_plan(lies.from_plan(tensor.affine.scale)), tensor.affine.scale)


def test_groups_of_a_convolution_are_refused():
    tensor = TensorPlan(4, "uniform", "group", group_size=16)
    with pytest.raises(BadInput, match=r"layer 'conv' .*plan one scale a channel"):
        layout("conv", "Conv2D", (3, 3, 16, 4), tensor)


def test_a_clipped_range_keeps_its_share_of_the_largest_weight():
    kernel = np.array([[1.0], [-0.5], [0.3]], np.float32)
    start = np.array([[0.5 / 7]], np.float32)
    quantizer = MinMaxWeights.starting(4, kernel, start)
    w = tf.Variable(2.0 * kernel)
    with tf.GradientTape() as tape:
        y = quantizer(w, True, {})
    np.testing.assert_allclose(y, [[1.0], [-1.0], [4 / 7]], rtol=1e-6)
    np.testing.assert_array_equal(tape.gradient(y, w), [[0.0], [1.0], [1.0]])


def test_weights_pass_the_gradient_straight_through():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype(np.float32)
    w = tf.Variable(kernel)
    with tf.GradientTape() as tape:
        y = starting("Conv2D", kernel, planned("Conv2D", kernel, 4)[0])(w, True, {})
        y = tf.reduce_sum(y * tf.range(4, dtype=tf.float32))
    np.testing.assert_array_equal(tape.gradient(y, w).numpy(), np.broadcast_to(np.arange(4.0), (3, 3, 2, 4)))


def test_zero_channels_stay_zero():
    kernel = np.zeros((3, 3, 2, 2), np.float32)
    kernel[..., 0] = 1.0
    got = starting("Conv2D", kernel, planned("Conv2D", kernel, 4)[0])(tf.constant(kernel), True, {}).numpy()
    np.testing.assert_allclose(got, kernel)


def test_activation_ranges_follow_a_moving_average_in_training_only():
    class Host(layers.Layer):
        def build(self, shape):
            self.quantizer = MovingAverageActivation(8, 2 / 255, 0, False, 0.9)
            self.state = self.quantizer.build(shape, "output", self)

        def call(self, x, training=None):
            return self.quantizer(x, bool(training), self.state)

    host = Host()
    x = tf.constant([[-2.0, 4.0]])
    host(x, training=False)
    low, high = -128 * 2 / 255, 127 * 2 / 255
    assert [float(v) for v in (host.state["min"], host.state["max"])] == pytest.approx([low, high])
    host(x, training=True)
    low, high = 0.9 * low + 0.1 * -2.0, 0.9 * high + 0.1 * 4.0
    assert [float(v) for v in (host.state["min"], host.state["max"])] == pytest.approx([low, high])
    step = (high - low) / 255
    affine = host.quantizer.affine({name: value.numpy() for name, value in host.state.items()})
    assert affine.scale[0] == pytest.approx(step)
    assert affine.zero_point[0] == round(-128 - low / step)


def test_the_whole_model_equals_a_layer_by_layer_computation():
    image = tf_keras.Input((6, 6, 2), name="image")
    x = layers.Conv2D(3, 3, activation="relu", name="conv")(image)
    model = tf_keras.Model(image, layers.Dense(4, name="dense")(layers.Flatten()(x)))
    graph = KerasGraph.from_model(model)
    data = images(32, size=6)
    data = type(data)("two", lambda: iter([type(b)((b.inputs[0][..., :2],)) for b in images(32, size=6)]), 32)
    plan = quantize(
        graph,
        calibrate(graph, data, "minmax", 32),
        lambda *_: LayerRequest(Request(4, True, "channel"), Request(8, False)),
    )
    x = next(iter(data)).inputs[0]
    kernel, dense = graph.linear_ops()

    def act(name, value):
        return fake_quantize(value, plan.activations[name].affine)

    conv_w = np.moveaxis(fake_quantize(kernel.kernel, plan.weights["conv"].affine), 0, -1)
    conv = tf.nn.conv2d(act("image", x), conv_w, 1, "VALID").numpy() + kernel.bias
    hidden = act("conv", np.maximum(conv, 0)).reshape(len(x), -1)
    want = act("dense", hidden @ fake_quantize(dense.kernel, plan.weights["dense"].affine).T + dense.bias)
    got = fake_quantized(graph, plan)([x])[0]
    step = plan.activations["dense"].affine.scale[0]
    assert np.abs(got - want).max() <= 1.01 * step
    assert (np.abs(got - want) > 0.5 * step).mean() < 0.01


def test_a_plan_that_leaves_a_layer_out_is_refused():
    with pytest.raises(BadInput, match="layer 'stem': the plan does not name it"):
        annotate(KerasGraph.from_model(mixed_net()).fold_batch_norm(), Plan())


def test_batch_norm_left_in_is_refused():
    with pytest.raises(BadInput, match=r"'stem_bn'.*not folded"):
        annotate(KerasGraph.from_model(mixed_net()), Plan())
