"""`tfq recipes`: the built-in recipes, the text of one, the schema of all, or one as ai-edge-quantizer reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from absl import flags

from tfq_pipeline import aeq_export, recipe
from tfq_pipeline.cli import arguments
from tfq_pipeline.cli.terminal import Terminal, table

USAGE = "[NAME [--aeq]] [--schema]"


def define(values: flags.FlagValues) -> None:
    flags.DEFINE_bool("schema", False, "Print the JSON Schema of recipe files.", flag_values=values)
    flags.DEFINE_bool(
        "aeq", False, "Print the recipe NAME (or a file) as ai-edge-quantizer's JSON.", flag_values=values
    )


def run(args: Sequence[str], values: flags.FlagValues, terminal: Terminal) -> Any:
    if values.schema:
        arguments.none(args, "recipes --schema")
        return recipe.json_schema()
    if values.aeq:
        return aeq_export.to_entries(recipe.load(arguments.one(args, "recipes --aeq", "NAME")))
    if args:
        name = arguments.one(args, "recipes", "NAME")
        return {"name": name, "text": recipe.text(name)}
    loaded = [recipe.load(name) for name in recipe.builtin()]
    return {
        "recipes": [
            {"name": r.name, "description": r.description, "passes": [p.kind for p in r.passes]} for r in loaded
        ]
    }


def show(document: Any, terminal: Terminal) -> None:
    if isinstance(document, list) or "$schema" in document:
        print(json.dumps(document, indent=2), file=terminal.out)
        return
    if "text" in document:
        print(document["text"], end="", file=terminal.out)
        return
    listed = table("recipe", "what it does", left=2)
    for entry in document["recipes"]:
        listed.add_row(entry["name"], entry["description"])
    terminal.console().print(listed)
