"""Bits that fall step by step: what each training starts from, and a recipe that goes all the way."""

import numpy as np
import pytest
import tf_keras

import tfq_pipeline as tfq
from tests.nets import images
from tfq_pipeline import recipe
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Weights
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.train.progressive import progressive
from tfq_pipeline.train.qat import Trained

DATA = images(96, size=6, batch=32)


def small_net():
    image = tf_keras.Input((6, 6, 3), name="image")
    tf_keras.utils.set_random_seed(3)
    x = tf_keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="conv")(image)
    x = tf_keras.layers.Dense(5, name="logits")(tf_keras.layers.Flatten(name="flat")(x))
    return tf_keras.Model(image, x, name="small")


@pytest.fixture(scope="module")
def start():
    graph = KerasGraph.from_model(small_net())
    ranges = calibrate(graph, DATA, "minmax", 96)
    bits = {"conv": 4, "logits": 8}

    def asked(name, *_):
        return LayerRequest(Request(bits.get(name, 8), True, "channel"), Request(8, False))

    return graph, quantize(graph, ranges, asked)


def test_each_training_goes_on_from_the_one_before_in_its_ranges(start):
    graph, plan = start
    seen = []

    def train(graph, plan, epochs):
        seen.append((graph, plan, epochs))
        doubled = graph.with_weights({op.name: Weights(2 * op.kernel, op.bias) for op in graph.linear_ops()})
        return Trained(doubled, plan, {"loss": [float(len(seen))] * epochs})

    made = progressive(graph, plan, [(8, 2), (6, 1)], 3, train)
    assert [epochs for _, _, epochs in seen] == [2, 1, 3]
    assert made.history == {"loss": [1.0, 1.0, 2.0, 3.0, 3.0, 3.0]}
    first = graph.linear_ops()[0].kernel
    for number, (at, planned, _) in enumerate(seen):
        np.testing.assert_array_equal(at.linear_ops()[0].kernel, 2**number * first)
        bits = {name: (of.bits, of.affine.bits) for name, of in planned.weights.items()}
        assert bits == {"conv": ((8, 8), (6, 6), (4, 4))[number], "logits": (8, 8)}
        top = (127, 31, 7)[number]
        ranges = [of.weights["conv"].affine.scale * n for of, n in ((planned, top), (plan, 7))]
        np.testing.assert_allclose(*ranges, rtol=1e-6)
    assert plan.weights["conv"].bits == 4


def test_a_stage_that_changes_nothing_is_refused(start):
    graph, plan = start
    with pytest.raises(BadInput, match=r"qat\.progressive: has a stage of 4 bits, and no weights are planned with f"):
        progressive(graph, plan, [(6, 1), (4, 1)], 1, lambda *_: pytest.fail("trained"))


def test_a_recipe_goes_from_8_bits_to_3_and_stays_calm():
    asked = """version: 1
passes:
  - fold_batch_norm
  - calibrate: {samples: 96}
  - quantize: {weights: {bits: 3}}
  - qat:
      epochs: 4
      batch_size: 16
      learning_rate: 1e-2
      weights: lsq
      oscillations: {freeze: 0.05, rate: 0.1}
      progressive: [{bits: 8, epochs: 2}, {bits: 4}]
  - convert
"""
    made = tfq.quantize(small_net(), recipe.parse(asked, "mine.yaml", "mine"), calibration=DATA, train=DATA)
    (history,) = [entry["history"] for entry in made.document["passes"] if "history" in entry]
    assert len(history["loss"]) == len(history["frozen"]) == 7
    assert history["loss"][-1] < history["loss"][0]
    assert {of.bits for of in made.plan.weights.values()} == {3}
