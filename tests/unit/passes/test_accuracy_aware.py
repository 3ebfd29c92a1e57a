"""The best of several tries; layers given back: the fewest that reach the target, the most harmful first."""

from __future__ import annotations

import numpy as np
import pytest

import tfq_pipeline as tfq
from tests.nets import images, mixed_net
from tfq_pipeline import recipe
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Weights
from tfq_pipeline.passes.accuracy_aware import Score, best, fall_back, score, sensitivity
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize, widened
from tfq_pipeline.plan import Plan, TensorPlan
from tfq_pipeline.tflite.interpreter import open_model

NARROW, WIDE = TensorPlan(4), TensorPlan(8)
LAYERS = [f"layer{i}" for i in range(11)]


@pytest.mark.parametrize("needed", [0, 1, 4, 10, 11])
def test_the_fewest_layers_that_are_enough(needed):
    def drop(plan: Plan) -> float:
        given_back = [name for name in LAYERS if plan.weights[name] is WIDE]
        assert given_back == LAYERS[: len(given_back)]
        return 5.0 - 4.5 * min(len(given_back), needed) / max(needed, 1) if needed else 0.1

    plan = Plan(dict.fromkeys(LAYERS, NARROW))
    found = fall_back(plan, dict.fromkeys(LAYERS, WIDE), LAYERS, drop, target=0.5, first=drop(plan))
    assert found.layers == tuple(LAYERS[:needed])
    assert found.drop <= 0.5
    assert len(found.tried) <= 2 + np.ceil(np.log2(len(LAYERS)))


def test_all_layers_when_nothing_is_enough():
    plan = Plan(dict.fromkeys(LAYERS, NARROW))
    found = fall_back(plan, dict.fromkeys(LAYERS, WIDE), LAYERS, lambda plan: 3.0, target=0.5, first=4.0)
    assert found.layers == tuple(LAYERS)
    assert found.drop == 3.0


def test_harm_is_the_error_of_one_layer_alone_and_falls_with_bits():
    graph = KerasGraph.from_model(mixed_net()).fold_batch_norm()
    request = LayerRequest(Request(3, True, "channel"), Request(8, False))
    plan = quantize(graph, calibrate(graph, images(), "minmax", 96), lambda *_: request)
    wide = widened(graph, plan, 8)
    assert set(wide) == set(plan.weights)
    narrow = sensitivity(graph, plan, images())
    given_back = sensitivity(graph, plan.with_weights(wide), images())
    for name, harm in narrow.items():
        assert given_back[name] <= harm / 50
    assert max(narrow.values()) > 1e-4
    op = next(op for op in graph.linear_ops() if op.name == "hidden")
    changed = graph.with_weights({"hidden": Weights(plan.weights["hidden"].represented(op.kernel), op.bias)})
    wanted, got = (np.concatenate([g.run(b.inputs)[0] for b in images()]) for g in (graph, changed))
    batches = [g.var() * g.size for g in np.split(wanted, [40, 80])]
    assert narrow["hidden"] == pytest.approx(np.sum((got - wanted) ** 2) / sum(batches), rel=1e-3)


def test_a_score_counts_points_and_the_share_of_the_outputs_that_is_error():
    wanted = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 3.0]])
    outputs = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0], [0.0, 3.0]])
    found = score(outputs, wanted, np.array([0, 1, 1, 1]))
    assert found.right.tolist() == [True, False, False, True]
    assert found.drop == 25.0
    assert found.error == pytest.approx((4 / 8) / 1.5)


def answers(wrong):
    return np.isin(np.arange(100), wrong, invert=True)


def test_outputs_decide_between_those_that_samples_cannot_tell_apart():
    first = Score(answers([1, 2, 3]), 3.0, 0.5)
    other = Score(answers([4, 5, 6, 7]), 4.0, 0.1)  # loses 4 to the first and wins 3
    assert best([first, other]) == 1
    same_and_more = Score(answers([1, 2, 3, 4, 5]), 5.0, 0.1)  # loses 2 and wins none
    assert best([first, same_and_more]) == 0


RECIPE = """
version: 1
passes:
  - fold_batch_norm
  - calibrate: {samples: 96}
  - quantize: {weights: {bits: 3}}
  - accuracy_aware: {seconds: SECONDS, samples: 64, target_drop: 100, tries: [[gptq], [gptq, quantease], [adaround]]}
  - convert
"""


def aware(seconds):
    chosen = recipe.parse(RECIPE.replace("SECONDS", str(seconds)), "aware", "aware")
    done = tfq.quantize(mixed_net(), chosen, train=images())
    return done, next(entry for entry in done.document["passes"] if entry["name"] == "accuracy_aware")


def test_the_best_of_all_tries_becomes_the_file():
    done, entry = aware(600)
    assert [tried["passes"] for tried in entry["tried"]] == ["as planned", "gptq", "gptq + quantease", "adaround"]
    assert entry["given_up"] == []
    errors = {tried["passes"]: tried["output_error"] for tried in entry["tried"]}
    held_out = images().take(64)
    runs = (KerasGraph.from_model(mixed_net()).run, open_model(done.data).run)
    wanted, got = (np.concatenate([run(b.inputs)[0] for b in held_out]) for run in runs)
    assert np.mean((got - wanted) ** 2) / wanted.var() == pytest.approx(errors[entry["chosen"]], rel=1e-3)
    labels = np.concatenate([b.labels for b in held_out])
    drop = 100 * ((wanted.argmax(-1) == labels).mean() - (got.argmax(-1) == labels).mean())
    assert entry["held_out"] == {"data": "images", "samples": 64, "drop": pytest.approx(drop, abs=1e-3)}


def test_the_first_try_is_finished_and_the_rest_given_up_when_time_is_over():
    _, entry = aware(1e-9)
    assert [tried["passes"] for tried in entry["tried"]] == ["as planned", "gptq"]
    assert entry["given_up"] == ["gptq + quantease", "adaround"]
