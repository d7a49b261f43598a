"""The floors of the house as data, and the imports that have to keep to them.

An import may point to a room on a lower floor, or stay in its own room. It may point neither up nor to another room
of the same floor. All imports count: those inside functions and those under TYPE_CHECKING as well. Names in strings
(registries, `python -m ...`) are no imports: they exist so that nothing is loaded before it is needed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tools.sources import Module

Floors = Sequence[Sequence[str]]
Graph = Mapping[str, frozenset[str]]

FLOORS: Floors = (
    ("runtimes", "converters.digest"),
    (
        "converters.errors",
        "converters.user_code",
        "converters.steps",
        "converters.recipe",
        "converters.models",
    ),
    ("converters.graph", "converters.sources", "converters.data"),
    ("converters.exporters", "converters.passes"),
    ("converters.plan", "converters.debug"),
    ("converters.build",),
    ("burnish",),
    ("benchmarks",),
)
"""Rooms by floor, the ground floor first. A room is a package with everything below it, or a single module."""

EMPTY = frozenset({"converters"})
"""Packages that only hold rooms: their `__init__.py` has no code, and nothing imports anything from it."""


@dataclass(frozen=True)
class Import:
    """One import of a module of the project by another.

    Attributes:
        importer: name of the module with the import statement.
        imported: name of the module that the statement loads.
        line: of the statement.
    """

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def read_imports(modules: Iterable[Module]) -> list[Import]:
    """List all imports between `modules`, wherever in a file they are written."""
    modules = list(modules)
    names = {module.name for module in modules}
    imports = []
    for module in modules:
        for node in ast.walk(module.tree):
            for target in _targets(node, module):
                imported = _module_of(target, names)
                if imported and imported != module.name:
                    imports.append(Import(module.name, imported, getattr(node, "lineno", 0)))
    return sorted(imports, key=lambda entry: (entry.importer, entry.line, entry.imported))


def _targets(node: ast.AST, module: Module) -> Iterator[str]:
    """Dotted names that an import statement names; an imported object counts as part of its module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
            parents = package[: len(package) - node.level + 1]
            base = ".".join([*parents, *([node.module] if node.module else [])])
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _module_of(dotted: str, names: set[str]) -> str | None:
    """The longest beginning of a dotted name that is a module of the project."""
    while dotted and dotted not in names:
        dotted = dotted.rpartition(".")[0]
    return dotted or None


def room_of(module: str, floors: Floors = FLOORS) -> str | None:
    """Return the room that holds a module, or None if no floor lists one."""
    candidates = [room for floor in floors for room in floor if f"{module}.".startswith(f"{room}.")]
    return max(candidates, key=len, default=None)


def homeless(modules: Iterable[Module], floors: Floors = FLOORS) -> list[str]:
    """List the modules that are in no room."""
    names = [module.name for module in modules]
    return [name for name in names if room_of(name, floors) is None and name not in EMPTY]


def unused_rooms(modules: Iterable[Module], floors: Floors = FLOORS) -> list[str]:
    """List the rooms without a module: names that were misspelled, or rooms that nobody has built."""
    used = {room_of(module.name, floors) for module in modules}
    return [room for floor in floors for room in floor if room not in used]


def upward_imports(imports: Iterable[Import], floors: Floors = FLOORS) -> list[Import]:
    """List the imports that point up, or to another room of the same floor. Homeless modules are not judged."""
    height = {room: number for number, floor in enumerate(floors) for room in floor}
    wrong = []
    for statement in imports:
        source, target = room_of(statement.importer, floors), room_of(statement.imported, floors)
        if source is None or target is None or source == target:
            continue
        if height[target] >= height[source]:
            wrong.append(statement)
    return wrong


def module_graph(modules: Iterable[Module], imports: Iterable[Import]) -> Graph:
    """Map every module to the modules that it imports."""
    edges: dict[str, set[str]] = {module.name: set() for module in modules}
    for statement in imports:
        edges[statement.importer].add(statement.imported)
    return {name: frozenset(targets) for name, targets in edges.items()}


def room_graph(graph: Graph, floors: Floors = FLOORS) -> Graph:
    """Map every room to the rooms that it imports; a homeless module is a room of its own."""
    edges: dict[str, set[str]] = {}
    for name, targets in graph.items():
        room = room_of(name, floors) or name
        reached = {room_of(target, floors) or target for target in targets}
        edges.setdefault(room, set()).update(reached - {room})
    return {room: frozenset(targets) for room, targets in edges.items()}


def circles(graph: Graph) -> list[list[str]]:
    """List the groups of nodes that reach each other, the largest first."""
    groups = [sorted(group) for group in _components(graph) if len(group) > 1]
    return sorted(groups, key=lambda group: (-len(group), group))


def levels(graph: Graph) -> dict[str, int]:
    """Number the nodes by the longest chain of imports below them, from 1; a circle counts as one node."""
    level: dict[str, int] = {}
    for group in _components(graph):  # what a group imports comes before it
        below = {target for name in group for target in graph[name]} - group
        height = 1 + max((level[target] for target in below), default=0)
        level.update(dict.fromkeys(group, height))
    return level


def _components(graph: Graph) -> list[set[str]]:
    """Strongly connected components (Tarjan), each after those that it imports."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[set[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(graph[name]):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            start = stack.index(name)
            components.append(set(stack[start:]))
            del stack[start:]

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return components
