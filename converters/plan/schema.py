"""The JSON Schema of recipes for editors; `make schema` writes configs/recipe.schema.json."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import models_json_schema

from converters.exporters import EXPORTERS
from converters.plan.load import CONFIGS
from converters.recipe.schema import Recipe

SCHEMA_FILE = CONFIGS / "recipe.schema.json"


def recipe_schema() -> dict[str, Any]:
    """Return the schema, from the classes that check recipes.

    No key is required at the top, since `extends:` may provide it. An artifact that is named after
    a shipped format has that format's options; any other has the options of one of them.
    """
    options = {name: EXPORTERS.get(name).Options for name in EXPORTERS.shipped}
    models: list[Any] = [Recipe, *options.values()]
    references, definitions = models_json_schema([(model, "validation") for model in models])
    shared = definitions["$defs"]

    def shared_name(model: Any) -> str:
        reference: str = references[(model, "validation")]["$ref"]
        return reference.rpartition("/")[2]

    recipe = shared.pop(shared_name(Recipe))
    by_name, alternatives = {}, []
    for name, model in options.items():
        definition = shared[shared_name(model)]
        definition.pop("required", None)  # `format` defaults to the artifact's name
        definition["properties"]["format"] = {
            "const": name,
            "description": "Format of the artifact.",
        }
        reference = references[(model, "validation")]
        alternatives.append(reference)
        by_name[name] = {"anyOf": [reference, {"type": "null"}]}
    recipe.pop("required")
    recipe["properties"]["artifacts"] |= {
        "properties": by_name,
        "additionalProperties": {"anyOf": alternatives},
    }
    recipe["properties"]["extends"] = {
        "type": "string",
        "description": "Name or file of a recipe to start from. Mappings are merged key by key, "
        "other values are replaced, and null removes a mapping.",
    }
    recipe.pop("title")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Burnish recipe",
        **recipe,
        "$defs": shared,
    }


def schema_text() -> str:
    """Return the schema as it is written to the file."""
    return json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
