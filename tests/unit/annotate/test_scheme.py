"""The model that TFMOT makes of a plan quantizes exactly as the numpy numerics say."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.nets import images, mixed_net
from tfq_pipeline.annotate.quantizers import ActivationRange, SymmetricWeights, channel_axes
from tfq_pipeline.annotate.scheme import annotate, fake_quantized
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.numerics.affine import fake_quantize, from_range, weight_range
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.plan import Plan

layers = tf_keras.layers


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(
    ("kind", "shape"), [("Conv2D", (3, 3, 4, 6)), ("DepthwiseConv2D", (3, 3, 4, 2)), ("Dense", (7, 5))]
)
def test_weights_land_on_the_planned_grid(bits, kind, shape):
    w = np.random.default_rng(bits).normal(size=shape).astype(np.float32)
    kept = channel_axes(len(shape), kind)
    got = SymmetricWeights(bits, kept)(tf.constant(w), True, {}).numpy()
    rows = np.moveaxis(w, kept, range(len(kept))).reshape(int(np.prod([shape[a] for a in kept])), -1)
    affine = from_range(*weight_range(rows, 0), bits, symmetric=True, narrow=True, axis=0)
    want = np.moveaxis(
        fake_quantize(rows, affine).reshape(
            [*(shape[a] for a in kept), *(n for a, n in enumerate(shape) if a not in kept)]
        ),
        range(len(kept)),
        kept,
    )
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_weights_pass_the_gradient_straight_through():
    w = tf.Variable(np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype(np.float32))
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(SymmetricWeights(4, (3,))(w, True, {}) * tf.range(4, dtype=tf.float32))
    np.testing.assert_array_equal(tape.gradient(y, w).numpy(), np.broadcast_to(np.arange(4.0), (3, 3, 2, 4)))


def test_zero_channels_stay_zero():
    w = np.zeros((3, 3, 2, 2), np.float32)
    w[..., 0] = 1.0
    got = SymmetricWeights(4, (3,))(tf.constant(w), True, {}).numpy()
    np.testing.assert_allclose(got, w)


def test_activation_ranges_follow_a_moving_average_in_training_only():
    class Host(layers.Layer):
        def build(self, shape):
            self.quantizer = ActivationRange(8, -1.0, 1.0, False, 0.9)
            self.state = self.quantizer.build(shape, "output", self)

        def call(self, x, training=None):
            return self.quantizer(x, bool(training), self.state)

    host = Host()
    x = tf.constant([[-2.0, 4.0]])
    host(x, training=False)
    assert [float(v) for v in (host.state["min_var"], host.state["max_var"])] == [-1.0, 1.0]
    host(x, training=True)
    assert float(host.state["min_var"]) == pytest.approx(0.9 * -1.0 + 0.1 * -2.0)
    assert float(host.state["max_var"]) == pytest.approx(0.9 * 1.0 + 0.1 * 4.0)


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
