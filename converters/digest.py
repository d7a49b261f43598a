"""Digests: of named parts, of files, of the code that a result depends on."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""Folder of the project's packages."""
_PACKAGES = ("converters", "runtimes")


class Key:
    """The digest of a list of named parts. Each is framed by its name and length, so no two lists look the same."""

    def __init__(self) -> None:
        """A key of nothing yet."""
        self._hash = hashlib.sha256()

    def add(self, name: str, part: bytes | str) -> None:
        """Add a part."""
        raw = part.encode() if isinstance(part, str) else part
        self._hash.update(f"{len(name)} {name} {len(raw)} ".encode())
        self._hash.update(raw)

    def hex(self) -> str:
        """The key of all parts so far."""
        return self._hash.hexdigest()


def source_digest(module: str, root: Path = ROOT) -> str:
    """The digest of the source of `module` and of every project module that it imports, in any scope, however far.

    For results that are kept under a key of their own and depend on code: any rule that changes gives another key.
    """
    key = Key()
    for name in sorted(source_modules(module, root)):
        key.add(name, _file(name, root).read_bytes())
    return key.hex()


@cache
def source_modules(module: str, root: Path = ROOT) -> frozenset[str]:
    """Names of the project modules that `module` imports, directly or not, and its own."""
    reached, pending = {module}, [module]
    while pending:
        new = set(_imports(_file(pending.pop(), root), root)) - reached
        reached |= new
        pending += new
    return frozenset(reached)


def _imports(file: Path, root: Path) -> Iterator[str]:
    """The project modules that the import statements of a file name."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in _PACKAGES and _file(name, root).is_file())


def _file(module: str, root: Path) -> Path:
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
