"""Every command and Python block of the documents is run, in order per page, or says why it cannot be."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.shell import Shell, commands, missing_lines
from tools.pages import DOCS, ROOT, Block, blocks

REASONS = ("device", "network", "minutes", "setup")
"""The kinds of things that a block may need and a test cannot give."""

RUN = ("sh", "console", "python")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
WITH_BLOCKS = [page for page in PAGES if any(block.language in RUN for block in blocks(page))]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone's root, as far as the documents look at it; pages share it, and the cache."""
    return tmp_path_factory.mktemp("clone")


@pytest.fixture
def shell(clone: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A shell in that folder, in which a page finds nothing that another page left."""
    for path in clone.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(
        ROOT / "configs", clone / "configs", ignore=shutil.ignore_patterns("__pycache__")
    )
    yield Shell(clone, monkeypatch)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.name)
def test_what_a_page_tells_its_reader_to_type_works(page: Path, shell: Shell) -> None:
    for block in blocks(page):
        if block.title:
            path = shell.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language in RUN and not exempt(block):
            run(block, shell)


def run(block: Block, shell: Shell) -> None:
    """Run a block. An `error:` that the page shows is expected, any other is a failure."""
    if block.language == "python":
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(block.text, block.place, "exec"), {"__name__": "__main__"})
        return
    for line, shown in commands(block.text):
        outcome = shell.run(line)
        refused = any(text.startswith("error:") for text in shown)
        assert (outcome.code != 0) == refused, (
            f"{block.place}: {line}: exit {outcome.code}\n{outcome.output}"
        )
        missing = missing_lines(shown, outcome.output)
        assert not missing, (
            f"{block.place}: {line} does not print {missing[0]!r}:\n{outcome.output}"
        )


def exempt(block: Block) -> bool:
    """Whether a block says that it is not run."""
    return block.remark is not None and block.remark[0] == "not run"


def test_a_block_that_is_not_run_gives_its_reason() -> None:
    exempted = [block for page in PAGES for block in blocks(page) if exempt(block)]
    for block in exempted:
        assert block.remark is not None
        kind, _, reason = block.remark[1].partition(": ")
        assert kind in REASONS, (
            f"{block.place}: {kind!r} is no reason; there are {', '.join(REASONS)}"
        )
        assert reason, f"{block.place}: say why"


def test_output_is_compared_line_by_line() -> None:
    assert missing_lines(["error: x", "  a ... c"], "noise\nerror: x\n a  b c\n") == []
    assert missing_lines(["error: x", "a"], "a\nerror: x\n") == ["a"]


def test_a_session_is_split_into_commands_and_their_output() -> None:
    assert commands("$ one\nout\n$ two\n") == [("one", ["out"]), ("two", [])]
    assert commands("one \\\n  more\ntwo\n") == [("one    more", []), ("two", [])]
