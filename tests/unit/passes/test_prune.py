"""Pruned weights are 0 in the file, whatever comes between, and the pattern is the one that was asked for."""

import numpy as np
import pytest

import tfq_pipeline as tfq
from tests.nets import images, mixed_net
from tfq_pipeline import recipe
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.passes.prune import Pruning, prune
from tfq_pipeline.plan import Plan, compare
from tfq_pipeline.tflite import flatbuffer as fb


@pytest.fixture(scope="module")
def graph():
    return KerasGraph.from_model(mixed_net()).fold_batch_norm()


def kernels(graph):
    return {op.name: op.kernel for op in graph.linear_ops()}


@pytest.mark.parametrize("share", [0.3, 0.75])
def test_magnitude_takes_the_smallest_weights_of_each_layer(graph, share):
    made = prune(graph, Pruning("magnitude", share))
    for name, kernel in kernels(graph).items():
        after = kernels(made.graph)[name]
        gone = after == 0
        assert gone.sum() == int(share * kernel.size)
        assert np.abs(kernel[gone]).max() <= np.abs(kernel[~gone]).min()
        np.testing.assert_array_equal(after[~gone], kernel[~gone])
        np.testing.assert_array_equal(made.kept[name], ~gone)


def test_of_the_whole_model_the_share_holds_and_layers_differ(graph):
    made = prune(graph, Pruning("magnitude", 0.6, "model"))
    gone = {name: 1.0 - mask.mean() for name, mask in made.kept.items()}
    total = sum(mask.size for mask in made.kept.values())
    assert sum((~mask).sum() for mask in made.kept.values()) == int(0.6 * total)
    assert max(gone.values()) - min(gone.values()) > 0.1


def test_blocks_go_as_a_whole_and_odd_channels_stay(graph):
    made = prune(graph, Pruning("block", 0.5, block=4), lambda op: op.name == "hidden")
    assert set(made.whole) == {"stem", "depthwise", "hidden", "lone_bn"}
    assert made.whole["stem"] == "its 3 input channels are no multiple of 4"
    for mask in made.kept.values():
        blocks = mask.reshape(-1, 4)
        assert (blocks.all(axis=1) | ~blocks.any(axis=1)).all()
        assert blocks.any(axis=1).sum() == len(blocks) - len(blocks) // 2


PASSES = {
    "rounding": "",
    "gptq": "  - gptq: {samples: 40}\n",
    "adaround, brecq": "  - adaround: {samples: 40, steps: 60}\n  - brecq: {samples: 40, steps: 60}\n",
    "lsq, quantease": "  - qat: {batch_size: 32, learning_rate: 1e-2, weights: lsq, distil: {}}\n"
    "  - quantease: {samples: 40}\n",
}


def written(more, pattern='"2:4"'):
    text = f"""
version: 1
passes:
  - fold_batch_norm
  - prune: {{pattern: {pattern}}}
  - calibrate
  - quantize: {{weights: {{bits: 4}}}}
{more}  - convert
"""
    return tfq.quantize(mixed_net(), recipe.parse(text, "mine", "mine"), calibration=images(), train=images())


@pytest.mark.parametrize("passes", PASSES)
def test_two_of_four_hold_in_the_file_after_every_pass(passes, tmp_path):
    made = written(PASSES[passes])
    entry = next(entry for entry in made.document["passes"] if entry["name"] == "prune")
    assert entry["sparsity"] == dict.fromkeys(("project", "side", "hidden"), 0.5)
    assert set(entry["whole"]) == {"stem", "depthwise", "lone_bn", "logits"}
    for name, values in weights_in_the_file(made).items():
        if name not in entry["sparsity"]:
            continue
        assert (np.count_nonzero(values.reshape(-1, 4), axis=1) <= 2).all(), name
        assert not values[~made.plan.weights[name].kept].any()
        assert np.count_nonzero(values) > 0.3 * values.size
    made.plan.save(tmp_path / "plan.npz")
    assert compare(made.plan, Plan.load(tmp_path / "plan.npz")) == ()


def weights_in_the_file(made):
    """Integers by layer; the file has the layers in the order of the graph."""
    model = fb.read(made.data)
    linear = [op for op in fb.ops(model) if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
    names = [op.name for op in made.graph.linear_ops()]
    return {name: fb.array(model, op.inputs[1]) for name, op in zip(names, linear, strict=True)}


def test_gptq_makes_up_for_the_weights_that_went():
    """As SparseGPT does: the weights that stay move, so the layer's error falls."""
    made = written(PASSES["gptq"])
    errors = next(entry for entry in made.document["passes"] if entry["name"] == "gptq")["relative_errors"]
    assert all(errors[name][1] < 0.8 * errors[name][0] for name in ("project", "hidden"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('  - prune: {pattern: "2:4", sparsity: 0.7}\n', "pattern 2:4 takes half of every layer"),
        ("  - prune: {block: 8}\n", "block belongs to pattern block, not to magnitude"),
        ("  - prune\n  - cross_layer_equalization\n", "put it before 'prune'"),
    ],
)
def test_contradictions_are_one_line(text, said):
    with pytest.raises(BadInput) as refused:
        recipe.parse(
            f"version: 1\npasses:\n  - fold_batch_norm\n{text}  - calibrate\n  - quantize\n  - convert\n", "r", "r"
        )
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_pattern_that_no_layer_takes_is_refused_with_the_reasons(graph):
    with pytest.raises(
        BadInput, match=r"'stem': its 3 input channels are no multiple of 7; 'depthwise': a dep"
    ) as said:
        prune(graph, Pruning("block", block=7))
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(("bits", "weights"), [(2, "binary"), (2, "seq"), (4, "codebook")])
def test_grids_without_a_0_are_refused(bits, weights):
    text = f"""
version: 1
passes:
  - fold_batch_norm
  - prune
  - calibrate
  - quantize: {{weights: {{bits: {bits}}}}}
  - qat: {{weights: {weights}}}
  - convert
"""
    with pytest.raises(BadInput, match=f"'depthwise'.* are pruned, and weights: {weights} of {bits} bits has no 0"):
        tfq.quantize(mixed_net(), recipe.parse(text, "mine", "mine"), calibration=images(), train=images())


def test_a_pruned_layer_that_stays_float_is_refused():
    text = """
version: 1
passes:
  - fold_batch_norm
  - prune
  - calibrate
  - quantize: {rules: [{match: {name: project}, skip: true}]}
  - convert
"""
    with pytest.raises(BadInput, match="'project': is pruned and stays float; add it to prune's skip"):
        tfq.quantize(mixed_net(), recipe.parse(text, "mine", "mine"), calibration=images())
