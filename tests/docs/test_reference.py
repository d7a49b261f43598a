"""The generated pages are current and complete."""

from __future__ import annotations

import pytest

from tools.pages import REFERENCE
from tools.reference import PAGES
from tools.reference_cli import cli_page
from tools.reference_python import docstring
from tools.reference_recipe import examples, problem, sections, type_of

KEYS = [f"{section.path}.{key}".lstrip(".") for section in sections() for key in section.keys]


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == PAGES[name](), "run `make reference`"


def test_every_key_has_an_example() -> None:
    assert set(examples()) == set(KEYS)


@pytest.mark.parametrize("path", KEYS)
def test_an_example_follows_the_schema(path: str) -> None:
    assert problem(path, examples()[path]) is None


def test_an_example_that_does_not_is_noticed() -> None:
    assert problem("artifacts.onnx.opset", 99) is not None
    assert problem("artifacts.onnx.no_such_key", 1) is not None


def test_every_key_has_a_description() -> None:
    missing = [
        f"{section.path}.{key}"
        for section in sections()
        for key, schema in section.keys.items()
        if not schema.get("description")
    ]
    assert missing == []


def test_types_are_words() -> None:
    assert type_of({"type": "integer", "minimum": 13, "maximum": 25}) == "integer, 13 to 25"
    assert (
        type_of({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]})
        == "number, above 0"
    )
    assert type_of({"enum": ["a", "b"]}) == "`a`, `b`"


def test_every_verb_is_described_with_its_options() -> None:
    page = cli_page()
    assert "## `burnish convert`" in page
    assert "| `--jobs N`, `-j` |" in page
    assert "<code>--require NAME&#124;all</code>" in page
    assert "burnish compare [OPTIONS] DIR..." in page


def test_sections_of_a_docstring_become_lists() -> None:
    def function() -> None:
        """Do it.

        Args:
            first: a value
                that goes on.

        Raises:
            package.Failure: it is wrong.
        """

    text = docstring(function)
    assert "**Arguments**\n\n- `first`: a value that goes on.\n" in text
    assert "- `Failure`: it is wrong.\n" in text
