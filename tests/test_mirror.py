"""The tree of tests mirrors the packages, or says in one line where a module is tested."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("burnish", "converters", "runtimes")
WHERE: dict[str, str] = tomllib.loads(Path(__file__).with_name("where.toml").read_text("utf-8"))

_DOTTED = re.compile(rf"\b(?:{'|'.join(PACKAGES)})(?:\.\w+)+")


def modules() -> list[str]:
    """Paths of all modules with code, from the repository's root."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return sorted(path.relative_to(ROOT).as_posix() for path in files if path.name != "__init__.py")


def mirror(module: str) -> Path:
    """The test file of a module's name."""
    path = Path(module)
    return ROOT / "tests" / path.parent / f"test_{path.stem.strip('_')}.py"


def _module_file(dotted: str) -> Path | None:
    path = ROOT.joinpath(*dotted.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def named_in(file: Path) -> frozenset[Path]:
    """Source files that a file names, by import or in a string (registries, entry points)."""
    text = file.read_text(encoding="utf-8")
    names = set(_DOTTED.findall(text))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    own = {name for name in names if name.split(".")[0] in PACKAGES}
    files = {_module_file(name) or _module_file(name.rpartition(".")[0]) for name in own}
    return frozenset(path for path in files if path is not None)


def reached_from(test: Path) -> set[Path]:
    """Source files that a test file, and the conftests above it, can reach."""
    conftests = [
        folder / "conftest.py" for folder in test.parents if folder.is_relative_to(ROOT / "tests")
    ]
    pending = [test, *(path for path in conftests if path.is_file())]
    reached: set[Path] = set()
    while pending:
        new = named_in(pending.pop()) - reached
        reached |= new
        pending += new
    return reached


@pytest.mark.parametrize("module", modules())
def test_a_module_has_a_test_file_of_its_name_or_a_line_that_says_where(module: str) -> None:
    if mirror(module).is_file():
        assert module not in WHERE, "its mirror exists: remove the line from tests/where.toml"
        return
    assert module in WHERE, (
        f"write {mirror(module).relative_to(ROOT)}, or a line in tests/where.toml"
    )
    test = ROOT / WHERE[module]
    assert test.is_file(), f"{WHERE[module]} does not exist"
    assert ROOT / module in reached_from(test), f"{WHERE[module]} never reaches {module}"


def test_no_line_is_left_of_a_module_that_is_gone() -> None:
    assert set(WHERE) <= set(modules())
