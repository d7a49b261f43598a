"""The JSON Schema that editors complete recipes by."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from converters.plan.load import CONFIGS
from converters.plan.schema import SCHEMA_FILE, recipe_schema, schema_text

RECIPES = sorted(CONFIGS.glob("*.yaml"))


def errors(recipe: dict[str, Any]) -> list[str]:
    return [
        error.message
        for error in jsonschema.Draft202012Validator(recipe_schema()).iter_errors(recipe)
    ]


def test_the_file_in_configs_is_current() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "run `make schema`"


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text()))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_follow_it(path: Any) -> None:
    assert errors(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "recipe",
    [
        {"artifact": {}},
        {"artifacts": {"onnx": {"opst": 18}}},
        {"artifacts": {"onnx": {"format": "tensorrt"}}},
        {"artifacts": {"mine": {"format": "tensorrt", "precision": "fp8"}}},
        {"devices": "gpu"},
        {"dims": {"batch": {"min": 1}}},
    ],
)
def test_it_refuses_what_the_classes_refuse(recipe: dict[str, Any]) -> None:
    assert errors(recipe)
