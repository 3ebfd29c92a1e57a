"""Recipes for ai-edge-quantizer: a recipe as its JSON list, so that it chooses the same schemes.

Its entries apply to operators and to names by regular expression; of those that fit the last one wins, but entries with
one expression stay together where the first of them stood. What it cannot say is an error that names it. Ranges of
activations are not part of its recipes: they are those of its own calibration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfq_pipeline.errors import BadInput
from tfq_pipeline.recipe import ActivationSpec, Layer, Quantize, Recipe, Rule, WeightSpec, spec_for
from tfq_pipeline.tflite.operators import GROUPED, INT4_KERNELS, Reads

Spec = tuple[WeightSpec | None, ActivationSpec | None]

_ALGORITHMS = {"minmax": "min_max_uniform_quantize", "mse": "MSE"}
_GRANULARITIES = {"tensor": "TENSORWISE", "channel": "CHANNELWISE"}
_GROUP_SIZES = (32, 64, 128, 256)
_OPERATIONS = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}
_SKIPPED = {"algorithm_key": "no_quantize", "op_config": {"compute_precision": "FLOAT"}}

# Operators with 4-bit weights that release 0.10 writes, by mode of the activations; 8 bits it writes for all.
_FOUR_BITS = frozenset({"CONV_2D", "FULLY_CONNECTED"})

# Passes that its recipes need not say: it takes a .tflite, whose batch norm is folded, and calibrates by itself.
_UNSAID = ("fold_batch_norm", "calibrate", "quantize", "convert")


def to_entries(recipe: Recipe) -> list[dict[str, Any]]:
    """The recipe as ai-edge-quantizer loads it.

    Raises:
        BadInput: naming the recipe and what cannot be said.
    """
    for config in recipe.passes:
        if config.kind not in _UNSAID:
            raise _unsayable(recipe, f"pass '{config.kind}'", "leave it out")
        method = getattr(config, "method", "minmax")
        if method not in ("minmax", "moving_average"):
            raise _unsayable(recipe, f"calibrate: method {method}", "take minmax")
    (quantize,) = [config for config in recipe.passes if isinstance(config, Quantize)]
    names = _names(recipe, quantize.rules)
    ends = {end: getattr(recipe.passes[-1], end) for end in ("inputs", "outputs")}
    return [entry for name in names for entry in _block(recipe, quantize, name)] + [
        {"regex": ".*", "operation": {"inputs": "INPUT", "outputs": "OUTPUT"}[end], **_SKIPPED}
        for end, kind in ends.items()
        if kind == "float32" and len(names) == 1
    ]


def _names(recipe: Recipe, rules: Sequence[Rule]) -> list[str]:
    """Name patterns in order, "*" for what has none, first."""
    names = ["*"]
    for number, rule in enumerate(rules, 1):
        where, match = f"quantize: rule {number}", rule.match
        if unsaid := {"type", "position", "smaller_than"} & set(match.model_dump(exclude_none=True)):
            what = min(unsaid)
            raise _unsayable(recipe, f"{where}: match.{what}", "match by op or name")
        name = match.name or "*"
        if name != "*" and not re.fullmatch(r"\*[^*?\[\]]+\*", name):
            raise _unsayable(recipe, f"{where}: name '{name}'", "write it as '*text*'")
        if name in names[:-1]:
            raise _unsayable(recipe, f"{where}: a rule for '{name}' after one for '{names[-1]}'", "put them together")
        if name != names[-1]:
            names.append(name)
        for earlier in rules[: number - 1]:
            if earlier.match.name not in (None, "*", name) and not _keys(earlier) <= _keys(rule) and not rule.skip:
                left = ", ".join(sorted(_keys(earlier) - _keys(rule)))
                raise _unsayable(
                    recipe, f"{where}: leaves {left} to a rule for '{earlier.match.name}'", f"give {left} here too"
                )
    return names


def _keys(rule: Rule) -> set[str]:
    return {
        f"{part}.{key}"
        for part in ("weights", "activations")
        if (given := getattr(rule, part)) is not None
        for key in given.model_dump(exclude_none=True)
    }


def _block(recipe: Recipe, quantize: Quantize, name: str) -> Iterator[dict[str, Any]]:
    """Entries for the layers of one name pattern: for all operators, then for those with weights that differ."""
    text = name.strip("*")
    regex = f".*{re.escape(text)}.*" if text else ".*"
    wide = _entry(recipe, "*", spec_for(quantize, Layer(text, "")), regex)
    if wide is not None and (wide["algorithm_key"] != "no_quantize" or text):
        yield wide
    for op in INT4_KERNELS:
        weights, activations = spec_for(quantize, Layer(text, "", op))
        entry = _entry(recipe, op, runnable(op, weights, activations), regex)
        if wide is None or {**entry, "operation": "*"} != wide:
            yield entry


def runnable(op: str, weights: WeightSpec | None, activations: ActivationSpec | None) -> Spec:
    """What `passes.quantize` makes of a request, as far as it depends on the operator alone."""
    if weights is None or activations is None:
        return None, None
    if activations.mode == "static":
        weights = weights.model_copy(update={"symmetric": True})
    modes: Mapping[str, Reads] = {"dynamic": "dynamic", "float": "decoded"}
    reads = modes.get(activations.mode) or ("int8" if activations.bits <= 8 else "int16")
    if weights.group_size is not None and (op not in GROUPED or reads != "dynamic" or weights.bits > 4):
        weights = weights.model_copy(update={"granularity": "channel", "group_size": None})
    if weights.bits <= 4 and reads not in INT4_KERNELS[op]:
        weights = weights.model_copy(update={"bits": 8})
    return weights, activations


def _entry(recipe: Recipe, op: str, spec: Spec, regex: str) -> Any:
    """One entry; of "*", which stands for operators without weights of the kinds we quantize, None where these stay
    float anyway."""
    weights, activations = spec
    head = {"regex": regex, "operation": _OPERATIONS.get(op, op)}
    if weights is None or activations is None or (op == "*" and activations.mode != "static"):
        return {**head, **_SKIPPED}
    if op == "*":
        weights = WeightSpec()
    return {
        **head,
        "algorithm_key": _algorithm(recipe, weights),
        "op_config": {
            **_activations(recipe, activations),
            "weight_tensor_config": {
                "num_bits": _bits(recipe, op, weights, activations),
                "symmetric": _symmetric(recipe, weights, activations),
                "granularity": _granularity(recipe, weights),
                "dtype": "INT",
            },
            "compute_precision": "FLOAT" if activations.mode == "float" else "INTEGER",
            "explicit_dequantize": activations.mode == "float",
        },
    }


def _algorithm(recipe: Recipe, weights: WeightSpec) -> str:
    if weights.range not in _ALGORITHMS:
        raise _unsayable(recipe, f"quantize: weights.range {weights.range}", f"take {' or '.join(_ALGORITHMS)}")
    return _ALGORITHMS[weights.range]


def _symmetric(recipe: Recipe, weights: WeightSpec, activations: ActivationSpec) -> bool:
    if not weights.symmetric and activations.mode == "dynamic":
        raise _unsayable(recipe, "quantize: weights.symmetric false beside dynamic activations", "leave it out")
    return weights.symmetric


def _bits(recipe: Recipe, op: str, weights: WeightSpec, activations: ActivationSpec) -> int:
    if weights.bits not in (4, 8):
        raise _unsayable(recipe, f"quantize: weights of {weights.bits} bits", "take 4 or 8")
    if weights.bits == 4 and op not in _FOUR_BITS:
        mend = f"add the rule {{match: {{op: {op}}}, weights: {{bits: 8}}}}"
        raise _unsayable(recipe, f"quantize: {op} with 4-bit weights", mend)
    return weights.bits


def _granularity(recipe: Recipe, weights: WeightSpec) -> str:
    if weights.group_size is None:
        return _GRANULARITIES[weights.granularity]
    if weights.group_size not in _GROUP_SIZES:
        raise _unsayable(recipe, f"quantize: groups of {weights.group_size}", f"take one of {_GROUP_SIZES}")
    return f"BLOCKWISE_{weights.group_size}"


def _activations(recipe: Recipe, spec: ActivationSpec) -> dict[str, Any]:
    if spec.mode != "static":
        return {}
    if spec.bits < 8:
        raise _unsayable(recipe, f"quantize: activations of {spec.bits} bits", "take 8 or 16")
    symmetric = spec.symmetric or spec.bits == 16
    config = {"num_bits": spec.bits, "symmetric": symmetric, "granularity": "TENSORWISE", "dtype": "INT"}
    return {"activation_tensor_config": config}


def _unsayable(recipe: Recipe, what: str, mend: str) -> BadInput:
    return BadInput(f"recipe {recipe.name}: {what}: ai-edge-quantizer cannot say it; {mend}")
