"""Bits that are learned under a budget: losses against sums by hand, choices against all of them, the end within it."""

import itertools

import numpy as np
import pytest

from tests.nets import images, mixed_net
from tfq_pipeline.annotate.quantizers import Techniques
from tfq_pipeline.annotate.scheme import annotate
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.lowering.lower import lower
from tfq_pipeline.lowering.reference import fake_quantized
from tfq_pipeline.lowering.verify import verify
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.cost import COSTS, work
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.train.learned_bits import LearnedBits, LearningBits, budget, nearest_widths, trajectory
from tfq_pipeline.train.qat import Training, qat

WIDTHS = (2, 3, 4, 8)


@pytest.fixture(scope="module")
def start():
    graph = KerasGraph.from_model(mixed_net()).fold_batch_norm()
    data = images(320, batch=64)
    ranges = calibrate(graph, data, "minmax", 320)
    return graph, quantize(graph, ranges, lambda *_: LayerRequest(Request(4, True, "channel"), Request(8, False))), data


def bits_in_all(graph, plan):
    return sum(op.kernel.size * plan.weights[op.name].bits for op in graph.linear_ops())


@pytest.mark.parametrize("seed", range(5))
def test_widths_are_the_nearest_of_all_that_are_within_the_limit(seed):
    rng = np.random.default_rng(seed)
    positions = rng.uniform(0, 3, 5)
    costs = [tuple(int(n) * bits for bits in WIDTHS) for n in rng.integers(1, 50, 5)]
    limit = rng.uniform(0.4, 0.8) * sum(c[2] for c in costs) + sum(c[0] for c in costs) / 2

    def distance(numbers):
        return sum((n - p) ** 2 for n, p in zip(numbers, positions, strict=True))

    every = itertools.product(range(4), repeat=5)
    fitting = [n for n in every if sum(c[i] for c, i in zip(costs, n, strict=True)) <= limit]
    got = nearest_widths(positions, costs, limit)
    assert tuple(got) in fitting
    assert distance(got) == pytest.approx(min(map(distance, fitting)))


def test_what_fits_exactly_is_taken():
    assert nearest_widths([1.0] * 7, [(0.1, 0.3)] * 7, 0.3 * 7) == [1] * 7


def companion(graph, plan, positions, options, multiplier):
    """The companion of a model whose layers are at given positions."""
    spending = budget(graph, plan, options)
    model = annotate(graph.before_fixed_outputs(), plan, Techniques("lsq", "lsq", widths=spending.widths))
    wrappers = {name: model.get_layer(f"quant_{name}")._weight_vars[0] for name in spending.widths}
    for (_, quantizer, variables), position in zip(wrappers.values(), positions, strict=True):
        variables["position"].assign(quantizer.placed(position))
    made = LearningBits(wrappers, spending, options, {})
    made.multiplier.assign(multiplier)
    return made


@pytest.mark.parametrize("multiplier", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("share", [0.6, 2.5])
def test_the_loss_is_that_of_the_augmented_lagrangian(start, multiplier, share):
    graph, plan, _ = start
    ops = graph.linear_ops()
    positions = np.linspace(0.25, 2.75, len(ops))
    options = LearnedBits(WIDTHS, "bits", share, error=0.3, regularization=0.2)
    made = companion(graph, plan, positions, options, multiplier)
    bits = np.interp(positions, range(4), WIDTHS)
    excess = sum(op.kernel.size * b for op, b in zip(ops, bits, strict=True)) / (share * bits_in_all(graph, plan)) - 1
    # For an inequality, its term is (max(0, multiplier + damping * excess)^2 - multiplier^2) / (2 damping).
    hinged = (max(0.0, multiplier + 2.0 * excess) ** 2 - multiplier**2) / 4.0
    error = 0.0
    for op, position in zip(ops, positions, strict=True):
        low = int(position)
        between = 0.0
        for number, part in ((low, 1 - position + low), (low + 1, position - low)):
            wide = quantize(
                graph,
                None,
                lambda *_, n=number: LayerRequest(
                    Request(WIDTHS[n], True, "channel", range="minmax" if n == 2 else "mse", decoded=True), None
                ),
            ).weights[op.name]
            between = between + part * wide.represented(op.kernel)
        error += ((between - op.kernel) ** 2).sum() / (op.kernel**2).sum()
    assert float(made.loss()) == pytest.approx(hinged + 0.3 * error + 0.2 * bits.mean(), rel=1e-3)


def test_the_multiplier_rises_above_the_limit_and_falls_to_0_below(start):
    graph, plan, _ = start
    made = companion(graph, plan, [2.0] * len(graph.linear_ops()), LearnedBits(WIDTHS, "bits", 0.5), 0.0)
    made.on_train_batch_end(0)
    assert float(made.multiplier) == pytest.approx(0.01)
    made = companion(graph, plan, [0.0] * len(graph.linear_ops()), LearnedBits(WIDTHS, "bits", 1.0), 0.004)
    made.on_train_batch_end(0)
    assert float(made.multiplier) == 0.0


@pytest.mark.parametrize(("kind", "share"), [("bits", 0.7), ("operations", 0.8)])
def test_learned_bits_end_within_the_budget_in_a_file_that_equals_the_model(start, kind, share):
    graph, plan, data = start
    bits = LearnedBits(WIDTHS, kind, share, learning_rate=0.1)
    trained = qat(graph, plan, data, Training(8, 32, 3e-3, weights="lsq", activations="lsq", bits=bits))
    widths = {name: planned.bits for name, planned in trained.plan.weights.items()}
    known = work(graph, plan)
    spent = sum(
        COSTS[kind](layer, widths[name]) / sum(COSTS[kind](k, 4) for k in known.values())
        for name, layer in known.items()
    )
    assert 0.5 < spent <= share
    assert set(widths.values()) <= set(WIDTHS)
    assert len(set(widths.values())) > 1
    for name, planned in trained.plan.weights.items():
        assert planned.affine.bits == planned.bits, name
    log = trajectory(trained.history)
    assert log["cost"][-1] < share + 0.05
    assert set(log["bits"]) == set(widths)
    assert {len(values) for values in log["bits"].values()} == {len(log["step"])} == {8}
    file = lower(trained.graph, trained.plan, "int8", "int8", {})
    reference = fake_quantized(trained.graph, trained.plan)
    result = verify(file, trained.graph, trained.plan, reference, images(100, seed=5), require_integer=True)
    assert result.argmax_agreement >= 0.97
    # What was learned at fractional bits goes on at whole ones.
    tuned = qat(trained.graph, trained.plan, data, Training(4, 32, 3e-3, weights="lsq", activations="lsq"))
    assert {name: planned.bits for name, planned in tuned.plan.weights.items()} == widths
    assert tuned.history["loss"][-1] < trained.history["loss"][0]


def test_layers_without_a_choice_keep_their_bits(start):
    graph, _, _ = start
    float_plan = quantize(graph, None, lambda *_: LayerRequest(Request(4, True, "channel"), None))
    # Depthwise convolutions have no kernel for INT4 weights beside activations that are quantized at run time.
    spending = budget(graph, float_plan, LearnedBits((4, 8), "size", 1.0))
    assert "depthwise" not in spending.widths
    assert "hidden" in spending.widths
    left = [op.kernel.size for op in graph.linear_ops() if op.op == "DEPTHWISE_CONV_2D"]
    assert spending.rest == pytest.approx(sum(left) / 1e3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (LearnedBits((4, 8), "bits", 0.9), r"learn_bits\.budget\.bits: is 0\.9, and the narrowest widths cost 1\.000"),
        (LearnedBits(WIDTHS, "latency", 0.9), "latency table: nothing of layer 'stem' at 4 bits"),
    ],
)
def test_budgets_that_cannot_be_met_are_refused(start, options, message):
    graph, plan, _ = start
    with pytest.raises(BadInput, match=message):
        budget(graph, plan, options)
