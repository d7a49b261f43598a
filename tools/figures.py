"""Figures of the code of burnish/, converters/ and runtimes/, with the targets that they have to meet.

    python -m tools.figures [--json]

Lines are physical lines. A function is as long as from its `def` to its last line. A module is a Python file, the
`__init__.py` of its folder among them; modules of a folder's own level are counted without `__init__.py`.
`tools/bindings.py` says what a binding is, `tools/layers.py` what the rooms and their floors are.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools import layers
from tools.bindings import read_bindings
from tools.sources import PACKAGES, ROOT, Module, read_modules

LONG_LINE = 100  # characters
TARGETS: dict[str, float] = {
    "filler names, % of bindings": 1.5,
    "lines over 100 characters, %": 2.0,
    "comprehensions per 100 lines": 2.5,
    "floors": 9,
    "upward imports": 0,
    "circles of modules": 0,
    "circles of rooms": 0,
    "modules in no room": 0,
    "largest folder level, modules": 12,
    "imports under TYPE_CHECKING": 0,
}
"""The largest value that each figure may have; the others are only shown."""
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Figure:
    """A measured value.

    Attributes:
        name: of the figure.
        value: as measured.
        target: the largest value that is allowed, or None.
        detail: where the value comes from, in a few words.
    """

    name: str
    value: float
    target: float | None = None
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether the value is within its target."""
        return self.target is None or self.value <= self.target


def measure(modules: Sequence[Module], floors: layers.Floors = layers.FLOORS) -> list[Figure]:
    """Measure all figures of some modules."""
    values = [*_sizes(modules), *_style(modules), *_layout(modules, floors)]
    return [Figure(name, value, TARGETS.get(name), detail) for name, value, detail in values]


_Value = tuple[str, float, str]


def _sizes(modules: Sequence[Module]) -> list[_Value]:
    """Number and length of modules and functions."""
    lengths = {str(module.path): len(module.lines) for module in modules}
    functions = {
        f"{module.path}:{node.lineno} {node.name}": (node.end_lineno or node.lineno)
        - node.lineno
        + 1
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    packages = Counter(module.name.split(".")[0] for module in modules)
    values: list[_Value] = [
        ("modules", len(modules), ", ".join(f"{count} {name}" for name, count in packages.items())),
        ("lines", sum(lengths.values()), ""),
        ("functions", len(functions), ""),
    ]
    return [
        *values,
        *_distribution("file length", lengths),
        *_distribution("function length", functions),
    ]


def _distribution(name: str, lengths: dict[str, int]) -> list[_Value]:
    """Median, 90th percentile and maximum of some lengths."""
    longest = max(lengths, key=lambda key: lengths[key])
    return [
        (f"{name}, median", _percentile(list(lengths.values()), 0.5), ""),
        (f"{name}, p90", _percentile(list(lengths.values()), 0.9), ""),
        (f"{name}, longest", lengths[longest], longest),
    ]


def _percentile(values: Sequence[int], share: float) -> int:
    """The smallest value that is at least as large as `share` of all of them."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _style(modules: Sequence[Module]) -> list[_Value]:
    """Figures of how the code reads."""
    lines = [line for module in modules for line in module.lines]
    long = sum(len(line) > LONG_LINE for line in lines)
    nodes = [node for module in modules for node in ast.walk(module.tree)]
    comprehensions = sum(isinstance(node, _COMPREHENSIONS) for node in nodes)
    bindings = [binding for module in modules for binding in read_bindings(module.tree)]
    fillers = Counter(binding.name.strip("_") for binding in bindings if binding.is_filler)
    words = ", ".join(f"{count} {name}" for name, count in fillers.most_common())
    return [
        ("filler names, % of bindings", _share(fillers.total(), len(bindings)), words),
        ("bindings", len(bindings), ""),
        ("lines over 100 characters, %", _share(long, len(lines)), f"{long} lines"),
        (
            "comprehensions per 100 lines",
            _share(comprehensions, len(lines)),
            f"{comprehensions} comprehensions",
        ),
    ]


def _share(part: int, whole: int) -> float:
    """A share in percent, to two decimals."""
    return round(100 * part / whole, 2) if whole else 0.0


def _layout(modules: Sequence[Module], floors: layers.Floors) -> list[_Value]:
    """Floors, arrows that run up, circles, and how full the folders are."""
    imports = layers.read_imports(modules)
    graph = layers.module_graph(modules, imports)
    rooms = layers.room_graph(graph, floors)
    upward = layers.upward_imports(imports, floors)
    module_circles, room_circles = layers.circles(graph), layers.circles(rooms)
    homeless = layers.homeless(modules, floors)
    folders = Counter(str(module.path.parent) for module in modules if not module.is_package)
    [(fullest, most)] = folders.most_common(1) or [("", 0)]
    return [
        ("rooms", len(rooms), ""),
        (
            "floors",
            max(layers.levels(rooms).values(), default=0),
            "levels of the import graph between rooms",
        ),
        ("arrows between rooms", sum(len(targets) for targets in rooms.values()), ""),
        ("upward imports", len(upward), _several(map(str, upward))),
        ("circles of modules", len(module_circles), _several(map(" - ".join, module_circles))),
        ("circles of rooms", len(room_circles), _several(map(" - ".join, room_circles))),
        ("modules in no room", len(homeless), _several(homeless)),
        ("largest folder level, modules", most, fullest),
        ("imports under TYPE_CHECKING", *_type_checking(modules)),
    ]


def _type_checking(modules: Sequence[Module]) -> tuple[int, str]:
    """Imports of the project's own packages under TYPE_CHECKING."""
    owners = []
    for module in modules:
        for node in ast.walk(module.tree):
            if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
                continue
            for statement in node.body:
                if (
                    isinstance(statement, ast.ImportFrom)
                    and (statement.module or "").split(".")[0] in PACKAGES
                ):
                    owners.append(module.name)
    return len(owners), _several(dict.fromkeys(owners))


def _several(items: Iterable[object], most: int = 4) -> str:
    """The first of many items, with the number of the rest."""
    texts = [str(item) for item in items]
    rest = f" and {len(texts) - most} more" if len(texts) > most else ""
    return "; ".join(texts[:most]) + rest


def as_text(figures: Sequence[Figure]) -> str:
    """Format figures as lines: name, value, target, detail."""
    lines = [f"{'figure':32}{'value':>9}{'at most':>9}"]
    for figure in figures:
        target = "" if figure.target is None else f"{figure.target:g}"
        mark = " " if figure.holds else "!"
        lines.append(
            f"{figure.name:32}{figure.value:>9g}{target:>9} {mark} {figure.detail}".rstrip()
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures. Returns 1 if one is over its target."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.figures", description="Figures of the code."
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository; default: this one")
    options = parser.parse_args(arguments)
    figures = measure(read_modules(options.root))
    if options.json:
        print(
            json.dumps([{**asdict(figure), "holds": figure.holds} for figure in figures], indent=1)
        )
    else:
        print(as_text(figures))
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
