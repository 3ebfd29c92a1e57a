"""Layers given back: the fewest that reach the target, the most harmful first."""

from __future__ import annotations

import numpy as np
import pytest

from tests.nets import images, mixed_net
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Weights
from tfq_pipeline.passes.accuracy_aware import fall_back, sensitivity
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize, widened
from tfq_pipeline.plan import Plan, TensorPlan

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
