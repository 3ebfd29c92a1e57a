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
