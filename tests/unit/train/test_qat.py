"""QAT starts from a plan, learns, and ends in a plan whose file equals the trained model."""

import numpy as np
import pytest

from tests.nets import images, mixed_net
from tfq_pipeline.data import Batch, Data
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.lowering.lower import lower
from tfq_pipeline.lowering.reference import fake_quantized
from tfq_pipeline.lowering.verify import verify
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
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
