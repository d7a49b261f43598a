"""Recipes from somebody else: YAML that bursts, loops or makes objects is refused; no code runs until convert."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.plan.load import load_recipe

Refused = Callable[..., str]

RECIPE = """
model: python:evil:build
inputs: {x: {shape: [1, 4]}}
artifacts: {torchscript: {}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a recipe."""

    def write(text: str, name: str = "r.yaml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


Write = Callable[..., Path]


def laughs(levels: int, width: int, kind: str) -> str:
    """A billion laughs: each level holds the one before it many times."""
    empty, full = ("[{}]", "*{}") if kind == "list" else ("{{{}}}", "{1}: *{0}")
    lines = ["a0: &a0 [x, x]" if kind == "list" else "a0: &a0 {x: x}"]
    for level in range(1, levels):
        inner = ", ".join(full.format(f"a{level - 1}", f"k{index}") for index in range(width))
        lines.append(f"a{level}: &a{level} {empty.format(inner)}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (laughs(12, 10, "list"), "too large or too deeply nested"),
        (laughs(12, 10, "mapping"), "too large or too deeply nested"),
        (laughs(12, 10, "list") + "? *a11\n: x\n", "too large or too deeply nested"),
        ("b: {? " + "&a [&b [&c [x, x], *c, *c], *b]" + ": x}\n", "a key is text"),
        ("? [x]\n: y\n", "a key is text"),
        ("a: &a [*a]\n", "too large or too deeply nested"),
        ("a: &a {b: *a}\n", "too large or too deeply nested"),
        ("a: " + "[" * 3000 + "\n", "YAML"),
        ("a: " + "{b: " * 3000 + "\n", "YAML"),
        ("- " * 3000 + "a\n", "YAML|too large|a mapping"),
        ("x" * (1 << 21), "not a recipe"),
        (
            "a: !!python/object/apply:os.system ['touch MARKER']\n",
            "a recipe has lists and mappings, no 'tag:",
        ),
        (
            "a: !!python/object/new:os.system ['touch MARKER']\n",
            "a recipe has lists and mappings, no 'tag:",
        ),
        ("a: !!python/name:os.system\n", "could not determine a constructor"),
        ("a: !!python/module:os\n", "could not determine a constructor"),
        ("!!python/object/apply:os.system ['touch MARKER']\n", "a recipe has lists and mappings"),
        ("? !!python/object/apply:os.system ['touch MARKER']\n: b\n", "a key is text"),
        ("? !!python/name:os.system\n: b\n", "could not determine a constructor"),
        ("a: !!omap [b: c]\n", "no 'tag:yaml.org,2002:omap'"),
        ("<<: {a: b}\n", "could not determine a constructor"),
        ("a: " + "1" * 5000 + "\n", "is no int"),
        ("a: 1_" + "0" * 5000 + "\n", "is no int"),
        ("a: 190:" + ":".join(["59"] * 3000) + "\n", "is no int|unknown key"),
        ("a: 1e99999\n", "unknown key"),
        ("model: \x1b[2J\n", "YAML"),
        ("\x00", "YAML"),
    ],
)
def test_yaml_that_is_a_trap(
    recipe: Write,
    marker: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    words: str,
) -> None:
    monkeypatch.chdir(marker.parent)
    told = refused(load_recipe, recipe(text.replace("MARKER", marker.name)))
    assert any(one in told for one in words.split("|")), told[:500]
    assert not marker.exists()
    assert len(told) < 20_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\n" * 50_000, "r.yaml:2: a: is given twice"),
        ("inputs: {" + "x: {shape: [1]}, " * 14_000 + "}\n", "inputs.x: is given twice"),
        ("inputs:\n" + "".join(f"  k{n}: 1\n" for n in range(20_500)), "too large"),
        ("".join(f"k{n}: 1\n" for n in range(3000)), "and 2953 more problems"),
    ],
    ids=["one key again and again", "in one line", "more keys than fit", "keys that nobody knows"],
)
def test_long_recipes_are_refused_in_a_few_words(
    recipe: Write, refused: Refused, text: str, words: str
) -> None:
    assert words in (message := refused(load_recipe, recipe(text)))
    assert len(message) < 20_000


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (".".join("a" * 100_000) + "=1", "has 200,001 letters"),
        ("a" * 200_000 + "=1", "has 200,002 letters"),
        ("a=" + "b" * 200_000, "has 200,002 letters"),
        (".".join("a" * 1000) + "=1", "its path is longer than any of a recipe"),
        ("a" * 1000 + "=1", "its path is longer than any of a recipe"),
        ("a={b: 1, b: 2}", "is given twice"),
    ],
    ids=["steps", "letters", "value", "deep", "long key", "twice"],
)
@pytest.mark.timeout(60)
def test_settings_that_are_traps(recipe: Write, refused: Refused, setting: str, words: str) -> None:
    assert words in (message := refused(load_recipe, recipe(RECIPE), [setting]))
    assert len(message) < 500


def test_recipes_that_extend_each_other_for_ever(recipe: Write, refused: Refused) -> None:
    recipe("extends: b\n", "a.yaml")
    assert "in a circle" in refused(load_recipe, recipe("extends: a\n", "b.yaml"))


def test_a_chain_of_recipes_has_an_end(recipe: Write, refused: Refused) -> None:
    for number in range(50):
        recipe(f"extends: r{number + 1}\n", f"r{number}.yaml")
    recipe(RECIPE, "r50.yaml")
    assert "extend" in refused(load_recipe, recipe("extends: r1\n", "r0.yaml"))


def test_a_pipe_is_no_recipe(tmp_path: Path, refused: Refused) -> None:
    os.mkfifo(tmp_path / "r.yaml")
    refused(load_recipe, tmp_path / "r.yaml")
    (tmp_path / "child.yaml").write_text("extends: r\n", encoding="utf-8")
    refused(load_recipe, tmp_path / "child.yaml")


def test_checking_a_recipe_runs_no_code(recipe: Write, tmp_path: Path, marker: Path) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n", encoding="utf-8")
    load_recipe(recipe(RECIPE))
    assert not marker.exists()
