"""The reference of recipes, from the JSON Schema that editors use and the examples in recipe_examples.yaml.

The schema is walked from its root, so that keys are named as a recipe writes them (`data.evaluation.images`) and no
class of the program is named. Mappings with the same schema are described once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from converters.plan.schema import recipe_schema
from tools.tables import code, heading, notice, sentence, table

EXAMPLES = Path(__file__).with_name("recipe_examples.yaml")

_INTRODUCTION = """\
# Recipe reference

Every key of a recipe. For an introduction see [Writing a recipe](../recipes.md); editors complete keys from
`configs/recipe.schema.json`, from which this page is generated. `NAME` stands for a name of your choice.
"""

_TITLES = {
    "": "The recipe",
    "inputs.NAME": "`inputs`",
    "dims.NAME": "`dims`",
    "data": "`data`",
    "data.calibration": "Samples: `data.calibration`, `data.training`, `data.evaluation`",
    "artifacts.NAME": "`artifacts`: every format",
    "artifacts.NAME.passes": "`passes`",
    "artifacts.NAME.passes.prune": "The pass `prune`",
    "artifacts.NAME.passes.recover": "The pass `recover`",
    "artifacts.NAME.passes.quantize": "The pass `quantize`",
}


_REQUIRED = (
    "model",
    "inputs",
    "artifacts",
)  # or brought by `extends:`, so the schema requires nothing


@dataclass(frozen=True)
class Section:
    """A mapping in a recipe: the path that leads to it, what it is, and its keys with their schemas."""

    path: str
    description: str
    keys: Mapping[str, Any]
    required: frozenset[str]


def sections() -> list[Section]:
    """Every mapping of a recipe, the recipe itself first, each schema once."""
    return _Walk(recipe_schema()).sections()


def examples() -> dict[str, Any]:
    """An example for every key, by its path."""
    content: dict[str, dict[str, Any]] = yaml.safe_load(EXAMPLES.read_text(encoding="utf-8"))
    return {
        f"{path}.{key}".lstrip("."): value
        for path, keys in content.items()
        for key, value in keys.items()
    }


def recipe_page() -> str:
    """The Markdown page."""
    shown = examples()
    parts = [notice("configs/recipe.schema.json and tools/recipe_examples.yaml"), _INTRODUCTION]
    for section in sections():
        title = _TITLES.get(section.path) or _format_title(section.path)
        parts += [heading(2, title), f"\n{sentence(section.description)}\n\n"]
        rows = [_row(section, key, schema, shown) for key, schema in section.keys.items()]
        parts.append(table(("key", "type", "default", "description and example"), rows))
    return "".join(parts)


def _format_title(path: str) -> str:
    prefix, _, name = path.rpartition(".")
    return f"`format: {name}`" if prefix == "artifacts" else f"`{path}`"


def _row(section: Section, key: str, schema: Any, shown: Mapping[str, Any]) -> tuple[str, ...]:
    path = f"{section.path}.{key}".lstrip(".")
    description = sentence(schema["description"])
    if path in shown:
        description += "<br>" + code(f"{key}: {flow(shown[path])}")
    default = "required" if key in section.required else _default(schema)
    return code(key), type_of(schema), default, description


def flow(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _default(schema: Mapping[str, Any]) -> str:
    if "default" not in schema or schema["default"] in (None, [], {}):
        return ""
    return code(flow(schema["default"]))


def type_of(schema: Mapping[str, Any]) -> str:
    """A schema's type in words, such as "integer, 13 to 25"; `null` is left out."""
    if "$ref" in schema:
        return "mapping"
    if "anyOf" in schema:
        kinds = [type_of(option) for option in schema["anyOf"] if option.get("type") != "null"]
        if len(kinds) == 2 and kinds[1] == f"list of {kinds[0]}":
            return f"{kinds[0]}, or a list of them"
        return " or ".join(dict.fromkeys(kinds))
    if "const" in schema:
        return code(str(schema["const"]))
    if "enum" in schema:
        return ", ".join(code(str(value)) for value in schema["enum"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_plural(type_of(schema.get('items', {'type': 'number'})))}"
    return "mapping" if kind == "object" else f"{kind}{_bounds(schema)}"


def _plural(kind: str) -> str:
    words = {"string": "strings", "integer": "integers", "number": "numbers", "mapping": "mappings"}
    return words.get(kind, kind)


def _bounds(schema: Mapping[str, Any]) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f", {low} to {high}"
    parts = [
        f"at least {low}" if low is not None else "",
        f"above {above}" if above is not None else "",
        f"at most {high}" if high is not None else "",
        f"below {below}" if below is not None else "",
    ]
    words = " and ".join(part for part in parts if part)
    return f", {words}" if words else ""


class _Walk:
    """Follows references from the schema's root."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema, self.definitions = schema, schema["$defs"]
        self.seen: set[str] = set()

    def sections(self) -> list[Section]:
        root = {
            key: value for key, value in self.schema["properties"].items() if key != "artifacts"
        }
        keys = {key: self._described(value) for key, value in self.schema["properties"].items()}
        top = Section("", self.schema["description"], keys, frozenset(_REQUIRED))
        found = [top]
        for key, value in root.items():
            found += self._below(key, value)
        return found + self._artifacts()

    def _described(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """The schema with a description: its own, else that of the mapping that it refers to."""
        if "description" in schema or not any(self._references(schema)):
            return schema
        return {**schema, "description": self._definition(schema)["description"]}

    def _artifacts(self) -> list[Section]:
        """The formats: the keys that all have, the passes, then each format with its own."""
        listed = self.schema["properties"]["artifacts"]["properties"]
        formats = {name: self._definition(options) for name, options in listed.items()}
        each = [definition["properties"] for definition in formats.values()]
        common = {key: value for key, value in each[0].items() if all(key in keys for keys in each)}
        common["format"] = {"type": "string", "description": common["format"]["description"]}
        found = [Section("artifacts.NAME", "What every artifact may set.", common, frozenset())]
        found += self._below("artifacts.NAME.passes", common["passes"]["items"])
        for name, definition in formats.items():
            own = {
                key: value for key, value in definition["properties"].items() if key not in common
            }
            if own:
                found.append(
                    Section(f"artifacts.{name}", definition["description"], own, frozenset())
                )
        return found

    def _definition(self, schema: Mapping[str, Any]) -> Any:
        return self.definitions[next(self._references(schema)).rpartition("/")[2]]

    def _references(self, schema: Mapping[str, Any]) -> Iterator[str]:
        if "$ref" in schema:
            yield schema["$ref"]
        for option in schema.get("anyOf", ()):
            yield from self._references(option)

    def _below(self, path: str, schema: Mapping[str, Any]) -> list[Section]:
        """The mappings that a key leads to, and those below them."""
        values = schema.get("additionalProperties")
        if isinstance(values, dict):
            return self._below(f"{path}.NAME", values)
        found: list[Section] = []
        for reference in self._references(schema):
            if reference in self.seen:
                continue
            self.seen.add(reference)
            definition = self._definition({"$ref": reference})
            required = frozenset(definition.get("required", ()))
            keys = {key: self._described(value) for key, value in definition["properties"].items()}
            found.append(Section(path, definition["description"], keys, required))
            for key, value in definition["properties"].items():
                found += self._below(f"{path}.{key}", value)
        return found


def problem(path: str, value: Any) -> str | None:
    """Why an example does not fit its key's schema, or None."""
    import jsonschema

    schema = recipe_schema()
    for section in sections():
        for key, part in section.keys.items():
            if f"{section.path}.{key}".lstrip(".") == path:
                whole = {"$defs": schema["$defs"], **part}
                errors = jsonschema.Draft202012Validator(whole).iter_errors(value)
                return next((error.message for error in errors), None)
    return f"the schema has no key {path}; it has {json.dumps(sorted(examples()))[:200]}"
