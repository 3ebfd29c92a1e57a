"""QAT starts from a plan, learns, and ends in a plan whose file equals the trained model."""

from dataclasses import replace

import numpy as np
import pytest
import tf_keras

from tests.nets import images, mixed_net
from tfq_pipeline.data import Batch, Data
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.lowering.lower import lower
from tfq_pipeline.lowering.reference import fake_quantized
from tfq_pipeline.lowering.verify import verify
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.tflite.interpreter import open_model
from tfq_pipeline.train.qat import Training, qat


@pytest.fixture(scope="module")
def start():
    graph = KerasGraph.from_model(mixed_net()).fold_batch_norm()
    data = images(320, batch=64)
    plan = quantize(
        graph,
        calibrate(graph, data, "minmax", 320),
        lambda *_: LayerRequest(Request(4, True, "channel"), Request(8, False)),
    )
    return graph, plan, data


@pytest.fixture(scope="module")
def trained(start):
    graph, plan, data = start
    return qat(graph, plan, data, Training(epochs=25, batch_size=32, learning_rate=1e-2, momentum=0.9))


def accuracy(run, data):
    hits = [(run(b.inputs)[0].argmax(axis=1) == b.labels).mean() for b in data]
    return float(np.mean(hits))


def test_training_lowers_the_loss_and_raises_held_out_accuracy(start, trained):
    graph, plan, _ = start
    held_out = images(200, seed=9)
    assert trained.history["loss"][-1] < 0.7 * trained.history["loss"][0]
    before = accuracy(fake_quantized(graph, plan), held_out)
    after = accuracy(fake_quantized(trained.graph, trained.plan), held_out)
    assert after > before + 0.2


def test_the_trained_plan_lowers_to_a_file_that_equals_the_trained_model(trained):
    data = images(100, seed=5)
    file = lower(trained.graph, trained.plan, "int8", "int8", {})
    result = verify(
        file, trained.graph, trained.plan, fake_quantized(trained.graph, trained.plan), data, require_integer=True
    )
    assert result.argmax_agreement >= 0.98


def test_the_start_is_left_as_it_was(start, trained):
    graph, plan, _ = start
    assert trained.graph is not graph
    assert not np.array_equal(trained.graph.linear_ops()[0].kernel, graph.linear_ops()[0].kernel)
    assert plan.activations["stem"].affine.scale[0] != trained.plan.activations["stem"].affine.scale[0]


def test_joined_and_fixed_scales_hold_after_training(trained):
    scales = {name: t.affine.scale[0] for name, t in trained.plan.activations.items()}
    assert scales["lone_bn"] == scales["side"] == scales["join"]
    assert scales["probabilities"] == np.float32(1 / 256)


def test_data_without_labels_is_refused(start):
    graph, plan, data = start
    bare = Data("bare", lambda: iter([Batch(b.inputs) for b in data]), 320)
    with pytest.raises(BadInput, match="training data bare: found no labels"):
        qat(graph, plan, bare, Training(1, 32, 1e-3))


def test_a_loss_that_becomes_nan_is_an_error(start):
    graph, plan, data = start
    with pytest.raises(BadInput, match="loss became NaN; lower learning_rate"):
        qat(graph, plan, data, Training(2, 32, 1e30))


def brief(graph, plan, data, **options):
    """One step so small that nothing moves."""
    return qat(graph, plan, data.take(32), Training(1, 32, 1e-9, momentum=0.999999, **options))


def test_training_starts_from_the_integers_that_a_pass_chose(start):
    graph, plan, data = start
    rng = np.random.default_rng(4)
    chosen = {}
    for op in graph.linear_ops():
        nearest = plan.weights[op.name].integers(op.kernel)
        chosen[op.name] = replace(
            plan.weights[op.name], values=np.clip(nearest + rng.integers(-1, 2, nearest.shape), -7, 7).astype(np.int8)
        )
    trained = brief(graph, plan.with_weights(chosen), data)
    for op in trained.graph.linear_ops():
        np.testing.assert_array_equal(trained.plan.weights[op.name].integers(op.kernel), chosen[op.name].values)


def test_training_starts_from_the_planned_scales(start):
    graph, plan, data = start
    clipped = {
        name: replace(t, affine=replace(t.affine, scale=(0.6 * t.affine.scale).astype(np.float32)))
        for name, t in plan.weights.items()
    }
    trained = brief(graph, plan.with_weights(clipped), data)
    for name, planned in clipped.items():
        np.testing.assert_allclose(trained.plan.weights[name].affine.scale, planned.affine.scale, rtol=1e-5)


@pytest.mark.parametrize("decoded", [False, True])
def test_groups_and_decoding_are_kept(decoded):
    model = tf_keras.Sequential(
        [
            tf_keras.Input((64,), name="x"),
            tf_keras.layers.Dense(6, activation="relu", name="grouped"),
            tf_keras.layers.Dense(3, name="logits"),
        ]
    )
    graph = KerasGraph.from_model(model)
    asked = {
        "grouped": LayerRequest(Request(4, True, "channel" if decoded else "group", None if decoded else 16), None),
        "logits": LayerRequest(Request(8, True, "channel", decoded=decoded), None),
    }
    plan = quantize(graph, None, lambda name, *_: asked.get(name, LayerRequest(None, None)))
    rng = np.random.default_rng(1)
    x = rng.normal(size=(128, 64)).astype(np.float32)
    y = (x[:, :3]).argmax(axis=1).astype(np.int32)
    data = Data("rows", lambda: iter([Batch((x,), y)]), 128)
    trained = qat(graph, plan, data, Training(20, 64, 1e-2))
    assert trained.history["loss"][-1] < 0.8 * trained.history["loss"][0]
    for name, planned in plan.weights.items():
        got = trained.plan.weights[name]
        assert (got.granularity, got.group_size, got.decoded, got.bits) == (
            planned.granularity,
            planned.group_size,
            planned.decoded,
            planned.bits,
        )
        assert got.affine.scale.shape == planned.affine.scale.shape
    file = lower(trained.graph, trained.plan, "float32", "float32", {})
    got = open_model(file).run([x])[0]
    want = fake_quantized(trained.graph, trained.plan)([x])[0]
    assert (got.argmax(axis=1) == want.argmax(axis=1)).mean() > 0.95


def test_what_layers_add_to_the_loss_counts():
    image = tf_keras.Input((6, 6, 3), name="image")
    x = tf_keras.layers.Conv2D(4, 3, kernel_regularizer=tf_keras.regularizers.L2(100.0), name="conv")(image)
    model = tf_keras.Model(image, tf_keras.layers.Dense(5, name="logits")(tf_keras.layers.Flatten()(x)))
    graph = KerasGraph.from_model(model)
    data = images(64, size=6, batch=64)
    plan = quantize(
        graph,
        calibrate(graph, data, "minmax", 64),
        lambda *_: LayerRequest(Request(8, True, "channel"), Request(8, False)),
    )
    trained = qat(graph, plan, data, Training(1, 64, 1e-9))
    penalty = 100.0 * float(np.sum(graph.linear_ops()[0].kernel.astype(np.float64) ** 2))
    logits = fake_quantized(graph, plan)([next(iter(data)).inputs[0]])[0].astype(np.float64)
    labels = next(iter(data)).labels
    entropy = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(64), labels]
    assert trained.history["loss"][0] == pytest.approx(penalty + entropy.mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("weights", "activations", "bits"),
    [
        ("lsq", "lsq", 4),
        ("lsq", "lsq_plus", 3),
        ("seq", "lsq", 2),
        ("min_max", "pact", 4),
        ("logarithmic", "lsq", 4),
        ("ternary", "lsq", 2),
        ("binary", "lsq", 2),
    ],
)
def test_every_technique_learns_and_ends_in_a_file_that_equals_the_trained_model(start, weights, activations, bits):
    graph, _, data = start
    plan = quantize(
        graph,
        calibrate(graph, data, "minmax", 320),
        lambda name, *_: LayerRequest(Request(8 if name == "logits" else bits, True, "channel"), Request(8, False)),
    )
    options = Training(15, 32, 1e-2, weights=weights, activations=activations)
    trained = qat(graph, plan, data, options)
    assert trained.history["loss"][-1] < 0.8 * trained.history["loss"][0]
    file = lower(trained.graph, trained.plan, "int8", "int8", {})
    reference = fake_quantized(trained.graph, trained.plan)
    result = verify(file, trained.graph, trained.plan, reference, images(100, seed=5), require_integer=True)
    assert result.argmax_agreement >= 0.97
    used = np.unique(trained.plan.weights["hidden"].integers(trained.graph.linear_ops()[-2].kernel))
    limits = {"logarithmic": [-4, -2, -1, 0, 1, 2, 4], "ternary": [-1, 0, 1], "binary": [-1, 1], "seq": [-3, -1, 1, 3]}
    np.testing.assert_array_equal(used, limits.get(weights, range(1 - 2 ** (bits - 1), 2 ** (bits - 1))))
    moved = [n for n, t in trained.plan.activations.items() if t.affine.scale[0] != plan.activations[n].affine.scale[0]]
    assert {"stem", "hidden"} <= set(moved)
