"""The project's Markdown pages: their code blocks, links and headings, as tests and generators read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"

_FENCE = re.compile(r"^( *)```(\w*)(.*)$")
_COMMENT = re.compile(r"^ *<!-- ([a-z ]+): (.+) -->$")
_TITLE = re.compile(r'title="([^"]+)"')
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^(#{1,6}) (.+?)\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        page: the file that holds it.
        line: of its opening fence, from 1.
        language: the word after the fence, such as "sh".
        text: its content.
        title: the file that the reader is to save it as (`title="net.yaml"`), if any.
        remark: the HTML comment in the line before it, as (kind, text), if any.
    """

    page: Path
    line: int
    language: str
    text: str
    title: str | None
    remark: tuple[str, str] | None

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every page that a reader of the project finds: README.md, CONTRIBUTING.md, CHANGELOG.md and docs/."""
    names = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
    return [*(ROOT / name for name in names), *sorted(DOCS.rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced code blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found: list[Block] = []
    start: int | None = None
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence is None:
            continue
        if start is None:
            start = number
            continue
        found.append(_block(page, lines, start, number))
        start = None
    if start is not None:
        raise ValueError(f"{page}:{start + 1}: this code block is not closed")
    return found


def _block(page: Path, lines: list[str], start: int, end: int) -> Block:
    fence = _FENCE.match(lines[start])
    assert fence is not None  # the caller found it
    indent, language, info = fence.groups()
    content = [line.removeprefix(indent) for line in lines[start + 1 : end]]
    title = _TITLE.search(info)
    comment = _COMMENT.match(lines[start - 1]) if start else None
    remark = (comment.group(1), comment.group(2)) if comment else None
    return Block(
        page, start + 1, language, "\n".join(content) + "\n", title and title.group(1), remark
    )


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """The lines outside code blocks, each with its number from 1."""
    inside = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            yield number, line


def links(page: Path) -> list[tuple[int, str]]:
    """The targets of a page's links, each with its line."""
    return [(number, target) for number, line in prose(page) for target in _LINK.findall(line)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, spelled as code hosts and the site's generator spell them."""
    names: set[str] = set()
    for _, line in prose(page):
        heading = _HEADING.match(line)
        if heading is None:
            continue
        slug = base = slugify(heading.group(2))
        count = 0
        while slug in names:
            count += 1
            slug = f"{base}-{count}"
        names.add(slug)
    return names


def slugify(heading: str) -> str:
    """The anchor of a heading: lower case, without marks, with hyphens for spaces."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
