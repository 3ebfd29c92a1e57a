"""Recipes of ai-edge-quantizer: those that its package ships load and say the same; what cannot be said is named."""

import importlib.util
import json
from pathlib import Path

import pytest
from ai_edge_quantizer import recipe as shipped

from tfq_pipeline import aeq_export, recipe
from tfq_pipeline.errors import BadInput
from tfq_pipeline.tflite.operators import INT4_KERNELS

SHIPPED = Path(str(importlib.util.find_spec("ai_edge_quantizer").submodule_search_locations[0])) / "recipes"


def asked(loaded, op, name="layer"):
    (config,) = [p for p in loaded.passes if p.kind == "quantize"]
    weights, activations = recipe.spec_for(config, recipe.Layer(name, op, op))
    if weights is None:
        return None
    return (
        weights.bits,
        weights.granularity,
        activations.mode,
        activations.bits if activations.mode == "static" else None,
    )


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("default_a8w8_recipe.json", (8, "channel", "static", 8)),
        ("default_a16w8_recipe.json", (8, "channel", "static", 16)),
        ("dynamic_wi8_afp32_recipe.json", (8, "channel", "dynamic", None)),
    ],
)
def test_shipped_recipes_load(file, expected):
    assert asked(recipe.load(SHIPPED / file), "CONV_2D") == expected


def test_a_shipped_recipe_with_zero_points_of_weights_loads():
    loaded = recipe.load(SHIPPED / "default_af32w8float_recipe.json")
    assert asked(loaded, "CONV_2D") == (8, "channel", "float", None)
    assert [p.weights.symmetric for p in loaded.passes if p.kind == "quantize"] == [False]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("static_wi8_ai8", (8, "channel", "static", 8)),
        ("static_wi8_ai16", (8, "channel", "static", 16)),
        ("dynamic_wi8_afp32", (8, "channel", "dynamic", None)),
        ("dynamic_wi4_afp32", (4, "channel", "dynamic", None)),
        ("dynamic_wi4b64_afp32", (4, "group", "dynamic", None)),
        ("dynamic_wi2b32_afp32", (2, "group", "dynamic", None)),
        ("weight_only_wi8_afp32", (8, "channel", "float", None)),
        ("weight_only_wi4_afp32", (4, "channel", "float", None)),
    ],
)
def test_recipes_that_its_functions_make_load(name, expected):
    loaded = recipe.parse(json.dumps(getattr(shipped, name)()), f"{name}.json", name)
    assert asked(loaded, "FULLY_CONNECTED") == expected


def test_small_weights_stay_float_where_a_recipe_says_so():
    text = json.dumps(shipped.dynamic_legacy_wi8_afp32())
    (config,) = [p for p in recipe.parse(text, "legacy.json", "legacy").passes if p.kind == "quantize"]
    for elements, kept in ((1023, False), (1024, True)):
        weights, _ = recipe.spec_for(config, recipe.Layer("layer", "Dense", "FULLY_CONNECTED", elements=elements))
        assert (weights is not None) == kept


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([], ("int8", "int8")),
        ([("INPUT", "no_quantize")], ("float32", "int8")),
        ([("INPUT", "no_quantize"), ("OUTPUT", "no_quantize")], ("float32", "float32")),
        ([("OUTPUT", "no_quantize"), ("OUTPUT", "min_max_uniform_quantize")], ("int8", "int16")),
    ],
)
def test_types_of_inputs_and_outputs_are_taken(ends, expected):
    def static(operation, algorithm, bits):
        config = {"activation_tensor_config": {"num_bits": bits, "symmetric": bits == 16}, "weight_tensor_config": {}}
        config["weight_tensor_config"] = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE"}
        return entry(operation=operation, algorithm_key=algorithm, op_config=config)

    entries = [static("*", "min_max_uniform_quantize", 8), *(static(op, key, 16) for op, key in ends)]
    convert = recipe.parse(json.dumps(entries), "aeq.json", "aeq").passes[-1]
    assert (convert.inputs, convert.outputs) == expected


# What the other tool has no word for, by recipe.
NOT_SAID = {
    "best_wi4_ai8": "accuracy_aware",
    "data_free_wi8_ai8": "synthesize",
    "pruned_wi4_ai8": "prune",
    "qat_wi2_ai8": "qat",
    "qat_wi4_ai4": "method mse",
    "qat_wi4_ai8": "qat",
    "qat_wi8_ai8": "qat",
    "qat_wlearned_ai8": "learn_bits",
    "static_wi4_ai8": "DEPTHWISE_CONV_2D with 4-bit weights",
    "weight_only_wi4_afp32": "DEPTHWISE_CONV_2D with 4-bit weights",
}


@pytest.mark.parametrize("name", recipe.builtin())
def test_a_built_in_recipe_comes_back_the_same_or_what_is_in_the_way_is_named(name):
    ours = recipe.load(name)
    if name in NOT_SAID:
        with pytest.raises(BadInput, match=rf"recipe {name}: .*{NOT_SAID[name]}.*ai-edge-quantizer cannot say it"):
            aeq_export.to_entries(ours)
        return
    back = recipe.parse(json.dumps(aeq_export.to_entries(ours)), "back.json", "back")
    for op in INT4_KERNELS:
        assert effective(back, op) == effective(ours, op), op
    assert vars(back.passes[-1]) == vars(ours.passes[-1])


def effective(loaded, op):
    """What a layer becomes; of what runs on no kernel, the nearest that does."""
    (config,) = [p for p in loaded.passes if p.kind == "quantize"]
    weights, activations = aeq_export.runnable(op, *recipe.spec_for(config, recipe.Layer("layer", "", op)))
    if weights is None:
        return None
    mode = (activations.mode, activations.bits) if activations.mode == "static" else activations.mode
    return weights.bits, weights.granularity, weights.group_size, weights.symmetric, weights.range, mode


def entry(**changes):
    weights = {"num_bits": 4, "symmetric": True, "granularity": "BLOCKWISE_32", "dtype": "INT"}
    config = {"weight_tensor_config": weights, "compute_precision": "INTEGER"}
    return {
        "regex": ".*",
        "operation": "FULLY_CONNECTED",
        "algorithm_key": "min_max_uniform_quantize",
        "op_config": config,
        **changes,
    }


def test_the_last_entry_that_fits_wins_and_what_none_fits_stays_float():
    entries = [entry(), entry(regex=".*head.*", algorithm_key="no_quantize")]
    loaded = recipe.parse(json.dumps(entries), "aeq.json", "aeq")
    assert asked(loaded, "FULLY_CONNECTED") == (4, "group", "dynamic", None)
    assert asked(loaded, "FULLY_CONNECTED", "my_head_1") is None
    assert asked(loaded, "CONV_2D") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm_key": "GPTQ"}, "aeq.json, entry 1: algorithm_key: is 'GPTQ'"),
        ({"regex": "conv[0-9]+"}, "aeq.json, entry 1: regex: "),
        ({"op_config": {}}, "aeq.json, entry 1: op_config: has no weight_tensor_config"),
        (
            {"op_config": {"weight_tensor_config": {"num_bits": 4}, "skip_checks": True}},
            "aeq.json, entry 1: op_config: skip_checks",
        ),
        ({"operation": "INPUT", "regex": ".*one.*"}, "aeq.json, entry 1: regex: '.*one.*' for INPUT"),
    ],
)
def test_what_cannot_be_said_is_named(changes, message):
    with pytest.raises(BadInput) as error:
        recipe.parse(json.dumps([entry(**changes)]), "aeq.json", "aeq")
    assert str(error.value).startswith(message)
