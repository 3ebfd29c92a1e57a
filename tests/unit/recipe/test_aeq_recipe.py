"""Recipes of ai-edge-quantizer: those that its package ships load and say the same; what cannot be said is named."""

import importlib.util
import json
from pathlib import Path

import pytest

from tfq_pipeline import recipe
from tfq_pipeline.errors import BadInput

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
    ],
)
def test_what_cannot_be_said_is_named(changes, message):
    with pytest.raises(BadInput) as error:
        recipe.parse(json.dumps([entry(**changes)]), "aeq.json", "aeq")
    assert str(error.value).startswith(message)
