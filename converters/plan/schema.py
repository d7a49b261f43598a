"""The JSON Schema of recipes, for editors. Kept in configs/recipe.schema.json; `make schema` writes it anew."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import models_json_schema

from converters.exporters import EXPORTERS
from converters.plan.load import CONFIGS
from converters.recipe.schema import Recipe

SCHEMA_FILE = CONFIGS / "recipe.schema.json"


def recipe_schema() -> dict[str, Any]:
    """The schema, from the classes that check recipes.

    Nothing is required at the top, since `extends:` may bring it. An artifact that is named after a shipped
    format has that format's options; any other has the options of one of them.
    """
    options = {name: EXPORTERS.get(name).Options for name in EXPORTERS.shipped}
    models: list[Any] = [(Recipe, "validation"), *((model, "validation") for model in options.values())]
    references, definitions = models_json_schema(models)
    shared = definitions["$defs"]
    recipe = shared.pop(references[(Recipe, "validation")]["$ref"].rpartition("/")[2])
    named = {name: _optional(references[(model, "validation")]) for name, model in options.items()}
    for name, model in options.items():
        definition = shared[references[(model, "validation")]["$ref"].rpartition("/")[2]]
        definition.pop("required", None)  # `format` is the artifact's name where it is not given
        definition["properties"]["format"] = {"const": name, "description": "The exporter."}
    recipe.pop("required")
    recipe["properties"]["artifacts"] |= {
        "properties": named,
        "additionalProperties": {"anyOf": [reference for one in named.values() for reference in one["anyOf"][:1]]},
    }
    recipe["properties"]["extends"] = {"type": "string", "description": "A recipe whose values this one adds to."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Burnish recipe",
        **{key: value for key, value in recipe.items() if key != "title"},
        "$defs": shared,
    }


def _optional(reference: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [reference, {"type": "null"}]}


def schema_text() -> str:
    """The schema as it is written to the file."""
    return json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
