"""Recipes: errors name line and key, the schema is valid and accepts the built-in ones, later rules win."""

from __future__ import annotations

import jsonschema
import pytest
import yaml

from tfq_pipeline import recipe
from tfq_pipeline.errors import BadInput

BASE = """version: 1
passes:
  - fold_batch_norm
  - calibrate: {method: minmax, samples: 8}
  - quantize:
      weights: {bits: 4}
      rules:
        - {match: {type: DepthwiseConv2D}, weights: {bits: 8}}
        - {match: {name: "log*"}, skip: true}
  - convert
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{bits: 4}", "{bits: 9}", "my.yaml, line 6: quantize.weights.bits: is 9; allowed: a whole number 2..8"),
        ("{bits: 4}", "{bit: 4}", "my.yaml, line 6: quantize.weights.bit: unknown key; did you mean 'bits'?"),
        ("- calibrate", "- calibrat", "my.yaml, line 4: calibrat: unknown pass 'calibrat'; did you mean 'calibrate'?"),
        ("{name: ", "{nme: ", "my.yaml, line 9: quantize.rules.match.nme: unknown key; did you mean 'name'?"),
        ("version: 1", "version: 2", "my.yaml, line 1: version: is 2; write 'version: 1'"),
    ],
)
def test_errors_name_line_and_key(old: str, new: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        recipe.parse(BASE.replace(old, new), "my.yaml", "my")
    assert str(caught.value) == message


def test_later_rules_win() -> None:
    config = recipe.parse(BASE, "my.yaml", "my").passes[2]
    assert isinstance(config, recipe.Quantize)

    def bits(name: str, kind: str) -> int | None:
        weights, _ = recipe.spec_for(config, recipe.Layer(name, kind))
        return None if weights is None else weights.bits

    assert [bits("a", "Conv2D"), bits("a", "DepthwiseConv2D"), bits("logits", "DepthwiseConv2D")] == [4, 8, None]


def test_schema_accepts_the_built_in_recipes() -> None:
    schema = recipe.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert {"static_wi8_ai8", "static_wi4_ai8", "qat_wi8_ai8", "qat_wi4_ai8"} <= set(recipe.builtin())
    for name in recipe.builtin():
        recipe.load(name)
    jsonschema.validate(yaml.safe_load(BASE), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(BASE.replace("bits: 4", "bits: 9")), schema)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{}", "learn_bits.budget: is missing; add it"),
        ("{budget: {}}", "learn_bits.budget: wants one of bits, size, operations, energy, latency"),
        ("{budget: {bits: 0.8, size: 1}}", "learn_bits.budget: wants one of bits, size, operations, energy, latency"),
        ("{budget: {bit: 0.8}}", "learn_bits.budget.bit: unknown key; did you mean 'bits'?"),
        ("{budget: {bits: 0}}", "learn_bits.budget.bits: is 0; allowed: a number > 0 and <= 4"),
        ("{budget: {latency: 1}}", "learn_bits: budget latency and latency_table belong together; give both or none"),
        ("{budget: {bits: 1}, widths: [4, 2]}", "learn_bits: widths are not ascending; write them as [2, 3, 4, 8]"),
        ("{budget: {bits: 1}, widths: [4, 9]}", "learn_bits.widths: is 9; allowed: a whole number 2..8"),
    ],
)
def test_budgets_of_learned_bits(options: str, message: str) -> None:
    wanted = BASE.replace("  - convert", f"  - learn_bits: {options}\n  - convert")
    with pytest.raises(BadInput) as caught:
        recipe.parse(wanted, "my.yaml", "my")
    assert str(caught.value) == f"my.yaml, line 10: {message}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{oscillations: {}}", "qat.oscillations: does nothing; give damping or freeze"),
        ("{oscillations: {freeze: 0}}", "qat.oscillations.freeze: is 0; allowed: a number > 0 and < 1"),
        (
            "{oscillations: {damping: 1, freeze_start: 0.1}}",
            "qat.oscillations: freeze_start is where the threshold falls from; give freeze, and no less than it",
        ),
        (
            "{weights: ternary, oscillations: {damping: 1}}",
            "qat: oscillations belongs to weights min_max or lsq, not to ternary; leave it out",
        ),
    ],
)
def test_oscillations_are_those_of_uniform_weights(options: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        recipe.parse(BASE.replace("  - convert", f"  - qat: {options}\n  - convert"), "my.yaml", "my")
    assert str(caught.value) == f"my.yaml, line 10: {message}"


def test_bits_of_progressive_training_fall() -> None:
    asked = BASE.replace("  - convert", "  - qat: {progressive: [{bits: 6}, {bits: 8, epochs: 2}]}\n  - convert")
    with pytest.raises(BadInput) as caught:
        recipe.parse(asked, "my.yaml", "my")
    message = "bits of progressive do not fall, they are [6, 8]; write as in [{bits: 8}, {bits: 6}]"
    assert str(caught.value) == f"my.yaml, line 10: qat: {message}"


def test_only_static_activations_need_ranges() -> None:
    bare = "version: 1\npasses:\n  - quantize: {activations: {mode: MODE}}\n  - convert\n"
    for mode in ("dynamic", "float"):
        recipe.parse(bare.replace("MODE", mode), "my.yaml", "my")
    with pytest.raises(BadInput, match="'quantize' needs 'calibrate' before it"):
        recipe.parse(bare.replace("MODE", "static"), "my.yaml", "my")


@pytest.mark.parametrize(
    "weights", ["{granularity: group}", "{group_size: 32}", "{granularity: group, group_size: 33}"]
)
def test_groups_have_a_size_that_kernels_take(weights: str) -> None:
    with pytest.raises(BadInput, match=r"line 6: quantize\.weights"):
        recipe.parse(BASE.replace("{bits: 4}", weights), "my.yaml", "my")


def test_a_rule_takes_layers_out_of_groups() -> None:
    grouped = BASE.replace("{bits: 4}", "{bits: 4, granularity: group, group_size: 32}")
    config = recipe.parse(grouped.replace("{bits: 8}", "{granularity: channel}"), "my.yaml", "my").passes[2]
    assert isinstance(config, recipe.Quantize)
    weights = [recipe.spec_for(config, recipe.Layer("a", kind))[0] for kind in ("Dense", "DepthwiseConv2D")]
    assert [(w.granularity, w.group_size) for w in weights if w is not None] == [("group", 32), ("channel", None)]
