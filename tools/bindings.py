"""The places where code gives a name, and the names that say nothing of their thing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

FILLERS = frozenset({"one", "found", "made", "told", "known", "asked", "every", "own"})
"""Words that stand for anything. Underscores around a name change nothing: `_made` is `made`."""


@dataclass(frozen=True)
class Binding:
    """A place that gives a name.

    Attributes:
        name: that is given.
        line: where.
        kind: argument, variable or attribute.
    """

    name: str
    line: int
    kind: str

    @property
    def is_filler(self) -> bool:
        """Whether the name says nothing of its thing."""
        return self.name.strip("_") in FILLERS


def read_bindings(tree: ast.AST) -> Iterator[Binding]:
    """List the bindings of a file.

    A binding is each place that names a variable, an argument or an attribute: the targets of
    assignments (`a = ...`, `a, b = ...`, `a: int = ...`, also fields of a class), of `for` (in loops
    and comprehensions), of `with ... as` and `except ... as`, of `:=` and of `match`; arguments of
    functions and lambdas, without `self` and `cls`; attributes that are assigned (`self.a = ...`).
    A name that is bound at two places counts twice. Not bindings: imports, names of functions and
    classes, `a += ...`, `a[i] = ...`, keywords of a call.
    """
    updated = {id(node.target) for node in ast.walk(tree) if isinstance(node, ast.AugAssign)}
    for node in ast.walk(tree):
        if id(node) in updated:
            continue
        if isinstance(node, ast.arg):
            if node.arg not in ("self", "cls"):
                yield Binding(node.arg, node.lineno, "argument")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield Binding(node.id, node.lineno, "variable")
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield Binding(node.attr, node.lineno, "attribute")
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield Binding(node.name, node.lineno, "variable")
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield Binding(node.rest, node.lineno, "variable")
