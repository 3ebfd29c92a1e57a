"""`tfq recipes`: the built-in recipes, the text of one, or the schema of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from absl import flags

from tfq_pipeline import recipe
from tfq_pipeline.cli import arguments
from tfq_pipeline.cli.terminal import Terminal, table

USAGE = "[NAME] [--schema]"


def define(values: flags.FlagValues) -> None:
    flags.DEFINE_bool("schema", False, "Print the JSON Schema of recipe files.", flag_values=values)


def run(args: Sequence[str], values: flags.FlagValues, terminal: Terminal) -> Any:
    if values.schema:
        arguments.none(args, "recipes --schema")
        return recipe.json_schema()
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
    if "text" in document:
        print(document["text"], end="", file=terminal.out)
        return
    if "$schema" in document:
        import json

        print(json.dumps(document, indent=2), file=terminal.out)
        return
    listed = table("recipe", "what it does", left=2)
    for entry in document["recipes"]:
        listed.add_row(entry["name"], entry["description"])
    terminal.console().print(listed)
