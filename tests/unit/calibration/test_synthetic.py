"""Calibration data made from batch norm statistics, and recipes that need no data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_keras

import tfq_pipeline as tfq
from tests.nets import images, keras3_net, mixed_net
from tests.unit.lowering.test_lower import tflite
from tfq_pipeline import recipe
from tfq_pipeline.calibration.synthetic import can_distill, distilled
from tfq_pipeline.data import Batch, Data
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph

RECIPE = """version: 1
passes:
  - synthesize: {OPTIONS}
  - fold_batch_norm
  - calibrate: {samples: 64}
  - quantize: {weights: {bits: 8}}
  - convert
"""


def parsed(options: str) -> recipe.Recipe:
    return recipe.parse(RECIPE.replace("OPTIONS", options), "made.yaml", "made")


def net() -> Any:
    """A net whose batch norms remember images."""
    model = mixed_net()
    for layer in model.layers:
        layer.momentum = 0.0
    model(next(iter(images(96, batch=96))).inputs[0], training=True)
    return model


def test_the_statistics_of_every_batch_norm_are_met() -> None:
    model = net()
    graph = KerasGraph.from_model(model)
    made = distilled(graph, 70, steps=150)
    data, (first, last) = made.data, made.statistics
    sizes = [len(batch) for batch in data]
    assert sizes == [64, 6]
    assert last < 0.1 * first
    x = np.random.default_rng(0).normal(size=(64, 12, 12, 3)).astype(np.float32)
    noise = Data("noise", lambda: iter([Batch((x,))]), 64)
    norms = {"stem_bn": "stem", "depthwise_bn": "depthwise", "project_bn": "project"}
    values = next(graph.capture(tuple(norms.values()), data))
    for norm, source in norms.items():
        mean, variance = graph.layer(norm).weights[-2:]
        flat = values[source].reshape(-1, len(mean))
        away = np.abs(flat.mean(axis=0) - mean) / np.sqrt(variance)
        before = next(graph.capture([source], noise))[source].reshape(-1, len(mean))
        assert away.mean() < 0.5 * (np.abs(before.mean(axis=0) - mean) / np.sqrt(variance)).mean()
        assert np.abs(flat.std(axis=0) / np.sqrt(variance) - 1).mean() < 0.5


def answers(model: Any, data: Data) -> np.ndarray:
    """How often a model answers each class."""
    found = np.concatenate([model(batch.inputs[0]).numpy() for batch in data])
    return np.bincount(found.argmax(axis=-1), minlength=found.shape[-1])


def test_a_classifier_answers_all_classes_about_equally_often() -> None:
    model = net()
    graph = KerasGraph.from_model(model)
    drawn, alike = (distilled(graph, 65, steps=150, classes=weight) for weight in (1.0, 0.0))
    assert np.abs(answers(model, drawn.data) - 13).max() <= 3
    assert answers(model, alike.data).min() < 6
    assert drawn.cross_entropy is not None
    assert drawn.cross_entropy[1] < 0.2 * drawn.cross_entropy[0]
    assert alike.cross_entropy is None


@pytest.mark.parametrize("end", ["a map", "one number", "two heads"])
def test_models_of_every_end(end: str) -> None:
    layers = tf_keras.layers
    image = tf_keras.Input((8, 8, 2))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3)(image))
    pooled = layers.GlobalAveragePooling2D()(x)
    ends = {"a map": [x], "one number": [layers.Dense(1)(pooled)], "two heads": [layers.Dense(3)(pooled), x]}
    made = distilled(KerasGraph.from_model(tf_keras.Model(image, ends[end])), 6, steps=50)
    assert [len(batch) for batch in made.data] == [6]
    assert made.statistics[1] < made.statistics[0]
    assert (made.cross_entropy is not None) == (end == "two heads")


def test_values_stay_between_the_limits_and_the_seed_decides() -> None:
    graph = KerasGraph.from_model(mixed_net())
    made = [next(iter(distilled(graph, 8, 5, (0.0, 1.0), seed).data)).inputs[0] for seed in (1, 1, 2)]
    assert made[0].min() >= 0.0
    assert made[0].max() <= 1.0
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_a_folded_graph_and_a_tflite_have_nothing_to_match() -> None:
    graph = KerasGraph.from_model(mixed_net())
    assert can_distill(graph)
    assert not can_distill(graph.fold_batch_norm())
    assert not can_distill(tflite(mixed_net()))


@pytest.mark.parametrize("kind", ["keras", "tflite"])
def test_a_recipe_that_makes_its_data_asks_for_none(kind: str, tmp_path: Path) -> None:
    model = keras3_net()
    if kind == "tflite":
        (tmp_path / "net.tflite").write_bytes(tflite(mixed_net()).data)
    result = tfq.quantize(tmp_path / "net.tflite" if kind == "tflite" else model, parsed("samples: 64, steps: 30"))
    made = result.document["passes"][0]
    assert (made["name"], made["source"]) == ("synthesize", {"keras": "batch_norm", "tflite": "noise"}[kind])
    assert result.document["data"]["calibration"]["samples"] == 64
    assert result.document["inspect"]["float_ops"] == 0
    assert result.document["verification"]["samples"] == 64


def test_noise_lies_between_its_limits() -> None:
    result = tfq.quantize(keras3_net(), parsed("source: noise, samples: 256, low: -3, high: 5"))
    affine = result.plan.activations["image"].affine
    assert affine is not None
    assert affine.scale[0] == pytest.approx(8 / 255, rel=0.01)


@pytest.mark.parametrize(
    ("options", "said"),
    [("low: 1", "low and high belong together"), ("low: 1, high: 1", "low below high"), ("steps: 0", "steps: is 0")],
)
def test_options_that_make_no_data_are_named(options: str, said: str) -> None:
    with pytest.raises(BadInput, match=rf"made\.yaml, line 3: synthesize.*{said}"):
        parsed(options)


def test_it_comes_before_the_fold() -> None:
    moved = RECIPE.replace("OPTIONS", "samples: 8").replace("passes:\n", "passes:\n  - fold_batch_norm\n", 1)
    with pytest.raises(BadInput, match=r"line 4: .*'synthesize' reads what later passes fold or change; put it first"):
        recipe.parse(moved, "made.yaml", "made")
