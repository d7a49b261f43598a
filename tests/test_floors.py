"""The floors of the house: every import points down, wherever it is written (`tools/layers.py`)."""

from __future__ import annotations

import ast
from collections import Counter

from tools import layers
from tools.sources import PACKAGES, Module, read_modules

MODULES = read_modules(folders=(*PACKAGES, "benchmarks"))
IMPORTS = layers.read_imports(MODULES)
LARGEST_FOLDER = 12
"""Modules that a folder may hold at its own level."""


def own_imports_for_types(module: Module) -> list[str]:
    """Imports of the project's packages that only a type checker runs."""
    blocks = [
        node
        for node in ast.walk(module.tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    statements = [child for block in blocks for child in ast.walk(block)]
    return [
        f"{module.name}:{child.lineno} imports {child.module}"
        for child in statements
        if isinstance(child, ast.ImportFrom) and (child.module or "").split(".")[0] in PACKAGES
    ]


def test_every_module_is_in_a_room_and_every_room_has_modules() -> None:
    assert len(MODULES) > 200
    assert layers.homeless(MODULES) == []
    assert layers.unused_rooms(MODULES) == []


def test_no_import_points_up() -> None:
    assert len(IMPORTS) > 1000
    assert [str(statement) for statement in layers.upward_imports(IMPORTS)] == []


def test_there_are_no_circles() -> None:
    graph = layers.module_graph(MODULES, IMPORTS)
    assert layers.circles(graph) == []
    assert layers.circles(layers.room_graph(graph)) == []


def test_there_are_at_most_nine_floors() -> None:
    rooms = layers.room_graph(layers.module_graph(MODULES, IMPORTS))
    assert max(layers.levels(rooms).values()) <= 9


def test_no_folder_holds_more_modules_than_one_can_take_in() -> None:
    folders = Counter(
        module.name.rpartition(".")[0]
        for module in MODULES
        if not module.is_package and module.name.startswith(PACKAGES)
    )
    assert {name: count for name, count in folders.items() if count > LARGEST_FOLDER} == {}


def test_the_projects_own_packages_are_never_imported_for_types_alone() -> None:
    assert [found for module in MODULES for found in own_imports_for_types(module)] == []
