"""The passages of English in source files: comments, docstrings, texts for users, documents."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

from tools.sources import Module

_DESCRIBING = {
    "help",
    "description",
    "epilog",
    "short_help",
}  # keywords whose texts users read as descriptions


@dataclass(frozen=True)
class Passage:
    """A piece of English.

    Attributes:
        text: of the passage.
        line: where it starts.
        last_line: where it ends.
        is_description: whether it is a docstring or a help text.
    """

    text: str
    line: int
    last_line: int
    is_description: bool = False

    def line_of(self, position: int) -> int:
        """The line of a position in the text; the first or last one if line breaks are written as escapes."""
        return min(self.line + self.text.count("\n", 0, position), self.last_line)


def read_python(module: Module) -> Iterator[Passage]:
    """List the comments of a module, its docstrings, and its string literals of several words."""
    yield from _comments(module.text)
    docstrings = set(_docstrings(module.tree))
    described = docstrings | set(_descriptions(module.tree))
    for node in ast.walk(module.tree):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            continue
        if id(node) in docstrings or " " in node.value.strip():
            last_line = node.end_lineno or node.lineno
            yield Passage(node.value, node.lineno, last_line, id(node) in described)


def read_markdown(text: str) -> Iterator[Passage]:
    """Return a document without its blocks of code and its code in backquotes, with the same lines."""
    text = re.sub(r"^```.*?^```", _blank, text, flags=re.MULTILINE | re.DOTALL)
    yield Passage(re.sub(r"`[^`\n]*`", _blank, text), 1, text.count("\n") + 1)


def read_yaml(text: str) -> Iterator[Passage]:
    """List the comments of a YAML file."""
    for number, line in enumerate(text.splitlines(), 1):
        match = re.search(r"(?:^|\s)#(.*)", line)
        if match:
            yield Passage(match.group(1).strip(), number, number)


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match.group())


def _comments(text: str) -> Iterator[Passage]:
    """Comments; those on lines of their own that follow each other are one passage."""
    block: list[str] = []
    start = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        number, column = token.start
        alone = not token.line[:column].strip()
        if block and not (alone and number == start + len(block)):
            yield Passage("\n".join(block), start, start + len(block) - 1)
            block = []
        if not block:
            start = number
        block.append(token.string.lstrip("#").strip())
        if not alone:
            yield Passage(block.pop(), number, number)
    if block:
        yield Passage("\n".join(block), start, start + len(block) - 1)


def _docstrings(tree: ast.Module) -> Iterator[int]:
    """Ids of the strings that stand alone: docstrings, and descriptions below a constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield id(node.value)


def _descriptions(tree: ast.Module) -> Iterator[int]:
    """Ids of the strings that are help texts: of options of the command line, and of the recipe's keys."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in _DESCRIBING:
            yield from (id(part) for part in ast.walk(node.value) if isinstance(part, ast.Constant))
