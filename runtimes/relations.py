"""Relations between dimensions, such as `past + new`: sums and products of names and integers."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}
_LONGEST = 200  # characters: a file from elsewhere shall not exhaust the parser


@dataclass(frozen=True)
class Interval:
    """All integers from `low` to `high`."""

    low: int
    high: int

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Interval) -> Interval:
        return Interval(self.low - other.high, self.high - other.low)

    def __mul__(self, other: Interval) -> Interval:
        ends = [left * right for left in self.ends for right in other.ends]
        return Interval(min(ends), max(ends))

    @property
    def ends(self) -> tuple[int, int]:
        """Both ends."""
        return self.low, self.high


@dataclass(frozen=True)
class Relation:
    """The size of a dimension as an expression of others.

    Attributes:
        text: as it was written.
        names: the dimensions in it, in order.
        tree: of the expression.
    """

    text: str
    names: tuple[str, ...]
    tree: ast.expr

    def size(self, sizes: Mapping[str, int]) -> int:
        """Return the size for given sizes of the others. Raises KeyError if one is missing."""
        return int(_evaluate(self.tree, sizes, int))

    def bounds(self, ranges: Mapping[str, Interval]) -> Interval:
        """Return bounds of the size for ranges of the others, by interval arithmetic."""
        result = _evaluate(self.tree, ranges, lambda number: Interval(number, number))
        assert isinstance(result, Interval)  # it is made of intervals alone
        return result


@lru_cache(maxsize=256)
def parse_relation(text: str) -> Relation:
    """Parse an expression of names and integers with +, -, * and parentheses.

    Raises ValueError for anything else.
    """
    problem = f"{text[:_LONGEST]!r} is no relation: write one such as `past + new` (names, + - *)"
    try:
        tree = ast.parse(text[: _LONGEST + 1].strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(problem) from error
    nodes = list(ast.walk(tree))
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    if len(text) > _LONGEST or not names or not all(map(_is_legal, nodes)):
        raise ValueError(problem)
    return Relation(text, tuple(dict.fromkeys(names)), tree)


def _is_legal(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) is int
    kinds = (ast.Name, ast.Load, ast.BinOp, *_OPERATORS)
    return isinstance(node, kinds)


def _evaluate(node: ast.expr, values: Mapping[str, Any], number: Callable[[int], Any]) -> Any:
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.Constant):
        return number(int(str(node.value)))
    assert isinstance(node, ast.BinOp)  # parse_relation() lets nothing else through
    left = _evaluate(node.left, values, number)
    right = _evaluate(node.right, values, number)
    return _OPERATORS[type(node.op)](left, right)
