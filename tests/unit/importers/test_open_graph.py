"""Models without Keras layers open as graphs over a float .tflite that compute what the model computes."""

import numpy as np
import pytest
import tensorflow as tf

from tests.nets import images, mixed_net
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.tflite_graph import TfliteGraph
from tfq_pipeline.importers import open_graph


class Affine(tf.Module):
    """Two inputs of which one is scaled; no Keras anywhere."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec((1, 4), name="a"), tf.TensorSpec((1, 3), name="b")])
    def __call__(self, a, b):
        return {"sum": tf.matmul(a, self.kernel) + b}


def test_a_module_opens_with_its_inputs_by_name(tmp_path):
    module = Affine()
    tf.saved_model.save(module, str(tmp_path), signatures=module.__call__)
    opened = open_graph(tmp_path)
    assert isinstance(opened.graph, TfliteGraph)
    assert {spec.name: spec.shape for spec in opened.graph.inputs} == {"a": (4,), "b": (3,)}
    rng = np.random.default_rng(1)
    given = {"a": rng.normal(size=(5, 4)).astype(np.float32), "b": rng.normal(size=(5, 3)).astype(np.float32)}
    (result,) = opened.graph.run([given[spec.name] for spec in opened.graph.inputs])
    np.testing.assert_allclose(result, given["a"] @ module.kernel.numpy() + given["b"], atol=1e-5)


def test_an_exported_keras_model_opens_as_tflite_and_a_saved_one_as_keras(tmp_path):
    model = mixed_net()
    model.export(str(tmp_path / "exported"))
    model.save(tmp_path / "model.keras")
    exported, saved = open_graph(tmp_path / "exported").graph, open_graph(tmp_path / "model.keras").graph
    assert isinstance(exported, TfliteGraph)
    assert isinstance(saved, KerasGraph)
    x = next(iter(images())).inputs
    np.testing.assert_allclose(exported.run(x)[0], saved.run(x)[0], atol=1e-6)


def test_signatures_that_leave_a_choice_are_named(tmp_path):
    module = Affine()
    tf.saved_model.save(module, str(tmp_path), signatures={"one": module.__call__, "two": module.__call__})
    with pytest.raises(BadInput, match=r"signatures one, two; save it with one named serving_default"):
        open_graph(tmp_path)
