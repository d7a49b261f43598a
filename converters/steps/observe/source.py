"""Inputs of a module that no hook can see, by its source: the clock of `datetime`, native readers."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from converters.steps.observe.record import CLOCK

_NOW = frozenset(("now", "today", "utcnow"))
# Packages whose functions open files in native code.
_NATIVE_READERS = frozenset(
    ("av", "cv2", "decord", "h5py", "lmdb", "netCDF4", "pyarrow", "rasterio", "sentencepiece")
) | {"soundfile", "tables", "zarr"}


@cache
def unseen_inputs(path: str) -> frozenset[str]:
    """Return the inputs that a Python file's code may have without a trace; none if it cannot be read."""
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    inputs = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_now(node.func):
            inputs.add(CLOCK)
        for module in _imported(node):
            package = module.partition(".")[0]
            if package in _NATIVE_READERS:
                inputs.add(f"what {package} reads")
    return frozenset(inputs)


def _is_now(function: ast.expr) -> bool:
    """Return whether a function is one like `datetime.now`."""
    if not isinstance(function, ast.Attribute) or function.attr not in _NOW:
        return False
    owner = function.value
    name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    return name in ("datetime", "date", "dt")


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module]
    return []
