"""Recipes of ai-edge-quantizer: its JSON list of (regex, operation, algorithm, config), read as recipes.

Both can say: bits, symmetry, granularity and range of weights, whether activations are static, dynamic or float, and
all of it by operator or name. What only one of them can say is an error that names the entry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfq_pipeline.errors import BadInput

_RANGES = {"min_max_uniform_quantize": "minmax", "MSE": "mse"}
_GRANULARITIES = {"TENSORWISE": "tensor", "CHANNELWISE": "channel"}
_OPERATIONS = {"CONV_2D_TRANSPOSE": "TRANSPOSE_CONV"}
_ENDS_OF = {"INPUT": "inputs", "OUTPUT": "outputs"}
# Types of inputs and outputs, by mode and bits of the activations.
_END_OF = {"static8": "int8", "static16": "int16"}


def to_document(entries: Sequence[Any], source: str) -> dict[str, Any]:
    """The recipe, as `recipe.parse` reads it, of an ai-edge-quantizer recipe; in both the last entry that fits wins.

    Args:
        entries: the JSON list.
        source: stands in messages.

    Raises:
        BadInput: naming source, entry and key.
    """
    if not entries:
        raise BadInput(f"{source}: an empty list; give at least one entry of an ai-edge-quantizer recipe")
    rules, ends = [], dict[str, str]()
    for number, entry in enumerate(entries, 1):
        where = f"{source}, entry {number}"
        if end := _ENDS_OF.get(_checked(entry, where)["operation"]):
            ends[end] = _end(entry, where)
        else:
            rules += _rules(entry, where)
    base = rules.pop(0) if rules and not rules[0]["match"] and "weights" in rules[0] else None
    quantize: dict[str, Any] = {"activations": {"mode": "float"}}
    if base is not None:
        quantize = {key: base[key] for key in ("weights", "activations")}
    # What no entry fits stays float.
    left = [{"match": {"name": "*"}, "skip": True}] if base is None else []
    for rule in rules:
        rule["match"] = rule["match"] or {"name": "*"}
    modes = [r["activations"] for r in [*([base] if base else []), *rules] if "activations" in r]
    static = [mode for mode in modes if mode.get("mode") == "static"]
    end = _END_OF.get(_mode(quantize["activations"]), "float32")
    return {
        "version": 1,
        "description": "from an ai-edge-quantizer recipe",
        "passes": [
            "fold_batch_norm",
            *([{"calibrate": {"method": "minmax"}}] if static else []),
            {"quantize": {**quantize, "rules": [*left, *rules]}},
            {"convert": {"inputs": end, "outputs": end, **ends}},
        ],
    }


def _checked(entry: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping) or not {"regex", "operation", "algorithm_key"} <= set(entry):
        raise BadInput(
            f"{where}: not an entry of an ai-edge-quantizer recipe; it wants regex, operation, algorithm_key"
        )
    return entry


def _end(entry: Mapping[str, Any], where: str) -> str:
    """Type of the model's inputs or outputs, of an entry for INPUT or OUTPUT."""
    if str(entry["regex"]) not in (".*", ""):
        raise BadInput(
            f"{where}: regex: '{entry['regex']}' for {entry['operation']}; here all have one type, write '.*'"
        )
    if entry["algorithm_key"] == "no_quantize":
        return "float32"
    config = entry.get("op_config") or {}
    return _END_OF.get(_mode(_activations(config, config.get("activation_tensor_config"))), "float32")


def _rules(entry: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """What an entry says, and what it leaves out behind it."""
    match = _match(str(entry["regex"]), str(entry["operation"]), where)
    algorithm = entry["algorithm_key"]
    if algorithm == "no_quantize":
        return [{"match": match, "skip": True}]
    if algorithm not in _RANGES:
        raise BadInput(f"{where}: algorithm_key: is '{algorithm}'; known here are no_quantize, {', '.join(_RANGES)}")
    config = entry.get("op_config") or {}
    weights, activations = config.get("weight_tensor_config"), config.get("activation_tensor_config")
    if not weights:
        raise BadInput(f"{where}: op_config: has no weight_tensor_config; add it, or take no_quantize")
    if config.get("skip_checks"):
        raise BadInput(
            f"{where}: op_config: skip_checks: is true; here no file has what runtimes cannot run, leave it out"
        )
    rule = {
        "match": match,
        "weights": {**_weights(weights, where), "range": _RANGES[algorithm]},
        "activations": _activations(config, activations),
    }
    least = config.get("min_weight_elements", 0)
    return [rule] if not least else [rule, {"match": {**match, "smaller_than": least}, "skip": True}]


def _match(regex: str, operation: str, where: str) -> dict[str, str]:
    match = {} if operation == "*" else {"op": _OPERATIONS.get(operation, operation)}
    if regex not in (".*", ""):
        text = regex.removeprefix(".*").removesuffix(".*")
        if re.escape(text).replace(r"\-", "-").replace(r"\ ", " ") != text:
            raise BadInput(f"{where}: regex: '{regex}' is no plain text between '.*'; write rules with shell patterns")
        match["name"] = f"*{text}*"
    return match


def _weights(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    granularity = str(config.get("granularity", "TENSORWISE"))
    found: dict[str, Any] = {"bits": config.get("num_bits", 8), "symmetric": config.get("symmetric", True)}
    if granularity.startswith("BLOCKWISE_"):
        return {**found, "granularity": "group", "group_size": int(granularity.removeprefix("BLOCKWISE_"))}
    if granularity not in _GRANULARITIES:
        raise BadInput(f"{where}: granularity: is '{granularity}'; known are {', '.join(_GRANULARITIES)}, BLOCKWISE_n")
    return {**found, "granularity": _GRANULARITIES[granularity]}


def _mode(activations: Mapping[str, Any]) -> str:
    return f"{activations['mode']}{activations.get('bits', '')}"


def _activations(config: Mapping[str, Any], static: Mapping[str, Any] | None) -> dict[str, Any]:
    if static:
        return {"mode": "static", "bits": static["num_bits"], "symmetric": static["symmetric"]}
    return {"mode": "dynamic" if config.get("compute_precision") == "INTEGER" else "float"}
