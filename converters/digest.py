"""Digests of named parts, and of the code that a result depends on."""

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
    """Digest of a list of named parts.

    Each part is framed by its name and length, so that no two different lists have the same key.
    """

    def __init__(self) -> None:
        """Start a key without parts."""
        self._hash = hashlib.sha256()

    def add(self, name: str, part: bytes | str) -> None:
        """Add a part."""
        content = part.encode() if isinstance(part, str) else part
        self._hash.update(f"{len(name)} {name} {len(content)} ".encode())
        self._hash.update(content)

    def hex(self) -> str:
        """Return the key of all parts so far."""
        return self._hash.hexdigest()


def source_digest(module: str, root: Path = ROOT) -> str:
    """Return the digest of `module` and of every project module that it imports, directly or not.

    For results that are stored under a key of their own and depend on code: any change of a rule
    changes the key. Imports in any scope count.
    """
    key = Key()
    for name in sorted(source_modules(module, root)):
        key.add(name, _file(name, root).read_bytes())
    return key.hex()


@cache
def source_modules(module: str, root: Path = ROOT) -> frozenset[str]:
    """Return the names of `module` and of the project modules that it imports, directly or not."""
    reached, pending = {module}, [module]
    while pending:
        new = set(_imports(_file(pending.pop(), root), root)) - reached
        reached |= new
        pending += new
    return frozenset(reached)


def _imports(file: Path, root: Path) -> Iterator[str]:
    """Yield the project modules that the import statements of a file name."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import module` names a module, too.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] in _PACKAGES and _file(name, root).is_file():
                yield name


def _file(module: str, root: Path) -> Path:
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
