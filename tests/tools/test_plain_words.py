"""The check of words: which it reports, where, and which it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import plain_words
from tools.bindings import FILLERS
from tools.plain_words import check, check_text
from tools.words import NAME_ADVICE

CODE = Path("converters/sample.py")


def words(text: str, path: Path = CODE) -> list[tuple[int, str]]:
    return [(finding.line, finding.word) for finding in check_text(text, path)]


@pytest.mark.parametrize("name", sorted(FILLERS))
def test_a_filler_as_a_name_is_reported(name: str) -> None:
    assert words(f"x = 1\n{name} = 2\n") == [(2, name)]
    assert words(f"def f({name}): pass\n") == [(1, name)]
    assert words(f"self._{name} = 2\n") == [(1, f"_{name}")]
    assert words(f"rows = [{name}.x for {name} in y]\n") == [(1, name)]


def test_every_filler_has_an_advice() -> None:
    assert set(NAME_ADVICE) == FILLERS


def test_names_are_checked_in_the_packages_only() -> None:
    assert words("one = 1\n", Path("benchmarks/sample.py")) == []


@pytest.mark.parametrize(
    "text", ["distance = 1", "ones = 1", "find(one)", "x.found", "known_layers = 1"]
)
def test_names_of_things_and_uses_are_left_alone(text: str) -> None:
    assert words(text + "\n") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"""Measure it anew."""\n', [(1, "anew")]),
        ("x = 1  # Anew.\n", [(1, "Anew")]),
        ("# fine\n# the node behind it\n", [(2, "behind")]),
        ('"""Fine.\n\nThe manifest tells\nit was told.\n"""\n', [(3, "tells"), (4, "told")]),
        ('raise E(f"{x} was made anew")\n', [(1, "anew")]),
        ('x = typer.Option(help="Make it anew.")\n', [(1, "anew")]),
        ('x = {"behind": 1}\n', []),
        ('"""What is found."""\n', [(1, "What")]),
        ('"""Which layer?\n\n    What a layer takes.\n    """\n', [(3, "What")]),
        ('def f():\n    """Return it. What is left is dropped."""\n', [(2, "What")]),
        ('X = 1\n"""What X is for."""\n', [(2, "What")]),
        ('x = Field(description="What it learns from.")\n', [(1, "What")]),
        ('x = typer.Option("a", help="Fine." " What follows.")\n', [(1, "What")]),
    ],
)
def test_words_are_reported(text: str, expected: list[tuple[int, str]]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '"""What is slow? Ask the profiler."""\n',
        '"""Return what is left."""\n',
        '"""Tells two classes apart."""\n',
        '"""Values that cannot be told apart."""\n',
        "# nothing is left behind\n",
        "# what a killed process left behind\n",
        "# must not fall behind\n",
        '"""What\'s new."""\n',
        "print('behind')\n",
        "# foretold\n",
    ],
)
def test_questions_and_idioms_are_left_alone(text: str) -> None:
    assert words(text) == []


def test_documents() -> None:
    page = "# A page\n\nMade anew.\n\n```\nmake anew\n```\n\nThe option `anew`.\n\nIt tells much.\n"
    assert words(page, Path("docs/page.md")) == [(3, "anew"), (11, "tells")]


def test_recipes() -> None:
    assert words("a: anew  # made anew\n# behind\n", Path("configs/a.yaml")) == [
        (1, "anew"),
        (2, "behind"),
    ]


def test_files_below_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "burnish"
    folder.mkdir()
    (folder / "a.py").write_text("one = 1\n", encoding="utf-8")
    (folder / "a.txt").write_text("anew\n", encoding="utf-8")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "result.md").write_text("anew\n", encoding="utf-8")
    (tmp_path / "benchmarks" / "README.md").write_text("anew\n", encoding="utf-8")
    paths = [Path("burnish"), Path("benchmarks"), Path("nowhere")]
    findings = [str(finding).split(": ")[:2] for finding in check(paths, tmp_path)]
    assert findings == [["burnish/a.py:1", "one"], ["benchmarks/README.md:1", "anew"]]


def test_the_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "burnish").mkdir()
    (tmp_path / "burnish" / "a.py").write_text("one = two = made = 1\n", encoding="utf-8")
    monkeypatch.setattr(plain_words, "check", lambda paths: check(paths, tmp_path))
    assert plain_words.main(["burnish"]) == 1
    output = capsys.readouterr().out.splitlines()
    assert output[0] == f"burnish/a.py:1: made: variable without a meaning; {NAME_ADVICE['made']}"
    assert output[-1] == "2 findings (1 made, 1 one)"
    (tmp_path / "burnish" / "a.py").write_text("distance = 1\n", encoding="utf-8")
    assert plain_words.main(["burnish"]) == 0
    assert capsys.readouterr().out == ""
