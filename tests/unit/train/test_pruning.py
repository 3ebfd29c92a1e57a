"""Pruned weights through training: 0 after every step, and the same after a run that was stopped."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

import tfq_pipeline as tfq
from tests.nets import images
from tests.unit.train.stopping import resumed_and_straight
from tfq_pipeline import recipe
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.prune import Pruning, prune
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.plan import compare
from tfq_pipeline.train.pruning import SparseWeights, Sparsification
from tfq_pipeline.train.qat import Training, qat


def small(inner=False):
    image = tf_keras.Input((6, 6, 3), name="image")
    tf_keras.utils.set_random_seed(3)
    x = tf_keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="conv")(image)
    x = tf_keras.layers.Conv2D(8, 1, activation="relu", name="inner")(x) if inner else x
    return tf_keras.Model(
        image, tf_keras.layers.Dense(5, name="logits")(tf_keras.layers.Flatten(name="flat")(x)), name="small"
    )


def test_what_a_step_moves_of_them_is_taken_back():
    rng = np.random.default_rng(0)
    kernel, mask = tf.Variable(rng.normal(size=(3, 4)).astype(np.float32)), rng.random((3, 4)) < 0.5
    moved = rng.normal(size=(3, 4)).astype(np.float32)
    made = SparseWeights([(kernel, mask)], {})
    kernel.assign(moved)
    made.on_train_batch_end(0)
    np.testing.assert_array_equal(kernel.numpy(), np.where(mask, moved, 0))


def test_masks_hold_through_a_run_that_was_stopped(tmp_path):
    data = images(96, size=6, batch=32)
    made = prune(KerasGraph.from_model(small()), Pruning("magnitude", 0.6))
    asked = LayerRequest(Request(4, True, "channel"), Request(8, False))
    plan = quantize(made.graph, calibrate(made.graph, data, "minmax", 96), lambda *_: asked)
    plan = plan.with_weights({name: replace(plan.weights[name], kept=mask) for name, mask in made.kept.items()})
    options = Training(3, 32, 1e-2, weights="lsq")

    resumed, straight = resumed_and_straight(partial(qat, made.graph, plan, data, options), 2 * 3 + 1, tmp_path)
    assert compare(resumed.plan, straight.plan) == ()
    for a, b in zip(resumed.graph.linear_ops(), straight.graph.linear_ops(), strict=True):
        np.testing.assert_array_equal(a.kernel, b.kernel)
        gone = ~made.kept[a.name]
        assert gone.sum() == int(0.6 * gone.size)
        assert not a.kernel[gone].any()
        assert not resumed.plan.weights[a.name].integers(a.kernel)[gone].any()


def test_one_recipe_prunes_distils_trains_and_corrects():
    model, data = small(inner=True), images(96, size=6, batch=32)
    made = tfq.quantize(model, "pruned_wi4_ai8", calibration=data, train=data, data=data)
    passes = {entry["name"]: entry for entry in made.document["passes"]}
    assert list(passes)[1:] == ["prune", "calibrate", "quantize", "qat", "bias_correction", "convert"]
    assert passes["prune"]["sparsity"] == {"inner": 0.5}
    # The loss has a teacher's part beside that of the labels.
    assert {"task_loss", "teacher_loss"} <= set(passes["qat"]["history"])
    assert set(passes["bias_correction"]["relative_errors"]) == {"conv", "inner", "logits"}
    (inner,) = [op for op in made.graph.linear_ops() if op.name == "inner"]
    integers = made.plan.weights["inner"].integers(inner.kernel)
    assert (np.count_nonzero(integers.reshape(-1, 4), axis=1) <= 2).all()
    assert {name: of.bits for name, of in made.plan.weights.items()} == {"conv": 8, "inner": 4, "logits": 8}
    assert abs(made.metrics["accuracy_gap"]) <= 2.1


def test_the_share_rises_as_the_papers_formula_has_it():
    """Against TFMOT's schedule, which has the same formula."""
    asked = Sparsification(Pruning("magnitude", 0.8), ("any",), start=0.2, end=0.5, every=1)
    theirs = tfmot.sparsity.keras.PolynomialDecay(0.2, 0.8, begin_step=0, end_step=100, power=3, frequency=1)
    for step in (0, 1, 37, 99, 100):
        assert asked.share(step, 200) == pytest.approx(float(theirs(step)[1]), abs=1e-6)
    assert asked.share(150, 200) == 0.8
    assert asked.share(50, 200) == pytest.approx(0.8 - 0.6 * 0.5**3)


@pytest.mark.parametrize(("pattern", "block"), [("magnitude", 1), ("block", 4)])
def test_zeros_that_come_on_the_way_stay_and_end_in_the_file(pattern, block):
    model, data = small(inner=True), images(96, size=6, batch=32)
    size = "block: 4, " if block > 1 else ""
    written = recipe.parse(
        "version: 1\npasses: [fold_batch_norm, calibrate, {quantize: {weights: {bits: 4}}}, "
        "{qat: {epochs: 4, batch_size: 32, learning_rate: 1.0e-2, weights: lsq, "
        f"sparsify: {{pattern: {pattern}, {size}sparsity: 0.75, every: 2}}}}}}, convert]\n",
        "a test",
        "sparse",
    )
    seen = []

    class Watcher(tf_keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            (kernel,) = [v for v in self.model.variables if v.shape == (1, 1, 8, 8)]
            seen.append(kernel.numpy() != 0)

    made = tfq.quantize(model, written, train=data, trainer=tfq.Trainer(callbacks=(Watcher(),)))
    (entry,) = [entry for entry in made.document["passes"] if entry["name"] == "qat"]
    assert entry["sparsity"] == {"inner": 0.75}
    assert entry["whole"] == {"conv": "the recipe skips it", "logits": "the recipe skips it"}
    # Twelve steps; chosen anew at 2, 4, 6, 8 and at the last that raises it, 9.
    shares = [1.0 - mask.mean() for mask in seen]
    chosen_at = [0, 2, 2, 4, 4, 6, 6, 8, 9, 9, 9, 9]
    wanted = [0.75 - 0.75 * (1 - step / 9) ** 3 for step in chosen_at]
    np.testing.assert_array_equal(shares, [int(share * 64 / block) * block / 64 for share in wanted])
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(seen))
    (inner,) = [op for op in made.graph.linear_ops() if op.name == "inner"]
    integers = made.plan.weights["inner"].integers(inner.kernel)
    kept = made.plan.weights["inner"].kept
    np.testing.assert_array_equal(kept, inner.kernel != 0)
    assert (np.ptp(kept.reshape(8, -1, block).astype(int), axis=-1) == 0).all()
    assert not integers[~kept].any()
    assert entry["history"]["sparsity"] == pytest.approx(shares[2::3])


def test_a_stopped_run_goes_on_with_the_zeros_it_had(tmp_path):
    graph = KerasGraph.from_model(small())
    data = images(96, size=6, batch=32)
    asked = LayerRequest(Request(4, True, "channel"), Request(8, False))
    plan = quantize(graph, calibrate(graph, data, "minmax", 96), lambda *_: asked)
    rising = Sparsification(Pruning("magnitude", 0.6), ("conv",), every=2)
    options = Training(3, 32, 1e-2, weights="lsq", sparsification=rising)

    resumed, straight = resumed_and_straight(partial(qat, graph, plan, data, options), 2 * 3 + 1, tmp_path)
    assert compare(resumed.plan, straight.plan) == ()
    np.testing.assert_array_equal(resumed.plan.weights["conv"].kept, straight.plan.weights["conv"].kept)
    assert (~resumed.plan.weights["conv"].kept).sum() == int(0.6 * 8 * 27)


def test_weights_that_a_callback_brings_back_get_the_zeros_of_the_end():
    graph, data = KerasGraph.from_model(small()), images(96, size=6, batch=32)
    asked = LayerRequest(Request(4, True, "channel"), Request(8, False))
    plan = quantize(graph, calibrate(graph, data, "minmax", 96), lambda *_: asked)
    rising = Sparsification(Pruning("magnitude", 0.6), ("conv",), end=0.2, every=1)
    stop = tf_keras.callbacks.EarlyStopping("loss", patience=2, min_delta=1e9, restore_best_weights=True)
    options = Training(9, 32, 1e-2, weights="lsq", sparsification=rising)
    trained = qat(graph, plan, data, options, trainer=tfq.Trainer(callbacks=(stop,)))
    assert len(trained.history["loss"]) == 3
    assert trained.history["sparsity"][0] < trained.history["sparsity"][-1]
    (conv,) = [op for op in trained.graph.linear_ops() if op.name == "conv"]
    kept = trained.plan.weights["conv"].kept
    assert 1.0 - kept.mean() == pytest.approx(trained.history["sparsity"][-1], abs=1e-6)
    assert not conv.kernel[~kept].any()


@pytest.mark.parametrize(
    ("qat_options", "before", "message"),
    [
        ("sparsify: {sparsity: 0.5, start: 0.6}", "", "start is 0.6, more than sparsity, 0.5"),
        ("sparsify: {pattern: '2:4'}", "", "which cannot rise"),
        ("sparsify: {block: 8}", "", "block belongs to pattern block"),
        ("sparsify: {}, progressive: [{bits: 8}]", "", "sparsify is for one training"),
        ("sparsify: {}", "prune, ", "'prune' has chosen the zeros already"),
        ("sparsify: {skip: [{name: '*'}]}", "", r"qat\.sparsify: no layer takes pattern magnitude"),
    ],
)
def test_what_does_not_fit_together_is_said(qat_options, before, message):
    text = f"version: 1\npasses: [fold_batch_norm, {before}calibrate, quantize, {{qat: {{{qat_options}}}}}, convert]\n"
    with pytest.raises(BadInput, match=message):
        tfq.quantize(small(True), recipe.parse(text, "a test", "bad"), train=images(96, size=6, batch=32))
