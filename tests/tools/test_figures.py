"""Figures of the code: each is counted by hand on a sample."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import figures
from tools.bindings import read_bindings
from tools.sources import Module, read_modules

SAMPLE = '''"""A module."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converters.b import B


def short(one, name):
    return [x for x in name]


class Thing:
    def longer(self, *args):
        self._made = 1
        total = 0
        total += 1
        return total
'''


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Three packages: a sample of 17 lines, a file of a long line, two empty files."""
    files = {
        "burnish/a.py": SAMPLE,
        "converters/b.py": f"B = '{'x' * 100}'\n",
        "runtimes/c.py": "",
        "runtimes/d.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def values(repository: Path) -> dict[str, float]:
    """The figures of the repository by name."""
    return {figure.name: figure.value for figure in figures.measure(read_modules(repository))}


def test_sizes(values: dict[str, float]) -> None:
    assert (values["modules"], values["lines"], values["functions"]) == (4, 19, 2)
    assert (values["file length, median"], values["file length, longest"]) == (0, 18)
    assert (values["function length, median"], values["function length, longest"]) == (2, 5)
    assert values["largest folder level, modules"] == 2


def test_style(values: dict[str, float]) -> None:
    # one, name, x, args, _made, total, B: seven bindings, two of them fillers
    assert (values["bindings"], values["filler names, % of bindings"]) == (7, 28.57)
    assert values["comprehensions per 100 lines"] == pytest.approx(100 / 19, abs=0.01)
    assert values["lines over 100 characters, %"] == pytest.approx(100 / 19, abs=0.01)


def test_layout(values: dict[str, float]) -> None:
    assert values["imports under TYPE_CHECKING"] == 1
    assert values["modules in no room"] == 1, "converters.b"
    assert (values["floors"], values["arrows between rooms"], values["upward imports"]) == (2, 1, 0)


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("a = b.c = d[0] = 1", ["a", "c"]),
        ("a, (b, *c) = x", ["a", "b", "c"]),
        ("a: int = 1", ["a"]),
        ("a += 1", []),
        ("import a", []),
        ("def f(self, a, *b, c=1, **d): pass", ["a", "b", "c", "d"]),
        ("lambda a: a", ["a"]),
        ("for a in x: pass", ["a"]),
        ("[a for a in x]", ["a"]),
        ("with x as a: pass", ["a"]),
        ("try: pass\nexcept OSError as a: pass", ["a"]),
        ("(a := 1)", ["a"]),
        ("match x:\n    case [a, *b]: pass\n    case {'k': 1, **c}: pass", ["a", "b", "c"]),
        ("f(a=1)", []),
    ],
)
def test_bindings(code: str, names: list[str]) -> None:
    module = Module("sample", Path("sample.py"), code)
    assert sorted(binding.name for binding in read_bindings(module.tree)) == names


def test_a_figure_over_its_target_is_marked_and_fails(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert figures.main(["--root", str(repository)]) == 1
    lines = capsys.readouterr().out.splitlines()
    [fillers] = [line for line in lines if line.startswith("filler names")]
    assert "28.57      1.5 !" in fillers
    [fullest] = [line for line in lines if line.startswith("largest folder level")]
    assert fullest.split()[-2:] == ["12", "runtimes"], "no mark: it is within its target"


def test_json(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures.main(["--json", "--root", str(repository)])
    by_name = {figure["name"]: figure for figure in json.loads(capsys.readouterr().out)}
    assert by_name["circles of modules"] == {
        "name": "circles of modules", "value": 0, "target": 0, "detail": "", "holds": True,
    }  # fmt: skip
    assert by_name["filler names, % of bindings"]["holds"] is False


def test_this_repository_can_be_measured() -> None:
    by_name = {figure.name: figure for figure in figures.measure(read_modules())}
    assert by_name["modules"].value > 100
    assert set(figures.TARGETS) <= set(by_name), "a target of a figure that does not exist"
