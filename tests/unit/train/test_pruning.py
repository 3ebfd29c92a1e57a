"""Pruned weights through training: 0 after every step, and the same after a run that was stopped."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfq_pipeline as tfq
from tests.nets import images
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.prune import Pruning, prune
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.plan import compare
from tfq_pipeline.train.pruning import SparseWeights
from tfq_pipeline.train.qat import Training, qat


def test_what_a_step_moves_of_them_is_taken_back():
    rng = np.random.default_rng(0)
    kernel, mask = tf.Variable(rng.normal(size=(3, 4)).astype(np.float32)), rng.random((3, 4)) < 0.5
    moved = rng.normal(size=(3, 4)).astype(np.float32)
    made = SparseWeights([(kernel, mask)], {})
    kernel.assign(moved)
    made.on_train_batch_end(0)
    np.testing.assert_array_equal(kernel.numpy(), np.where(mask, moved, 0))


class Stopped(Exception):
    pass


def test_masks_hold_through_a_run_that_was_stopped(tmp_path):
    image = tf_keras.Input((6, 6, 3), name="image")
    tf_keras.utils.set_random_seed(3)
    x = tf_keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="conv")(image)
    x = tf_keras.layers.Dense(5, name="logits")(tf_keras.layers.Flatten(name="flat")(x))
    data = images(96, size=6, batch=32)
    made = prune(KerasGraph.from_model(tf_keras.Model(image, x, name="small")), Pruning("magnitude", 0.6))
    asked = LayerRequest(Request(4, True, "channel"), Request(8, False))
    plan = quantize(made.graph, calibrate(made.graph, data, "minmax", 96), lambda *_: asked)
    plan = plan.with_weights({name: replace(plan.weights[name], kept=mask) for name, mask in made.kept.items()})
    options = Training(3, 32, 1e-2, weights="lsq")

    def stop(done, of):
        if done == 2 * 3 + 1:
            raise Stopped

    with pytest.raises(Stopped):
        qat(made.graph, plan, data, options, stop, checkpoints=tmp_path)
    resumed = qat(made.graph, plan, data, options, checkpoints=tmp_path)
    straight = qat(made.graph, plan, data, options)
    assert compare(resumed.plan, straight.plan) == ()
    for a, b in zip(resumed.graph.linear_ops(), straight.graph.linear_ops(), strict=True):
        np.testing.assert_array_equal(a.kernel, b.kernel)
        gone = ~made.kept[a.name]
        assert gone.sum() == int(0.6 * gone.size)
        assert not a.kernel[gone].any()
        assert not resumed.plan.weights[a.name].integers(a.kernel)[gone].any()


def test_one_recipe_prunes_distils_trains_and_corrects():
    image = tf_keras.Input((6, 6, 3), name="image")
    tf_keras.utils.set_random_seed(3)
    x = tf_keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="conv")(image)
    x = tf_keras.layers.Conv2D(8, 1, activation="relu", name="inner")(x)
    x = tf_keras.layers.Dense(5, name="logits")(tf_keras.layers.Flatten(name="flat")(x))
    model, data = tf_keras.Model(image, x, name="small"), images(96, size=6, batch=32)
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
