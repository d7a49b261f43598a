"""The Python files of the packages, parsed once for every tool."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("burnish", "converters", "runtimes")


@dataclass(frozen=True)
class Module:
    """A Python file.

    Attributes:
        name: as it is imported, such as `converters.steps.key`; a package for its `__init__.py`.
        path: relative to the root of the repository.
        text: of the file.
    """

    name: str
    path: Path
    text: str

    @cached_property
    def lines(self) -> list[str]:
        """The file's physical lines."""
        return self.text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.text, filename=str(self.path))

    @property
    def is_package(self) -> bool:
        """Whether this is the `__init__.py` of a folder."""
        return self.path.name == "__init__.py"


def read_modules(root: Path = ROOT, folders: tuple[str, ...] = PACKAGES) -> list[Module]:
    """Read all modules below `folders` of the repository at `root`, sorted by name."""
    modules = []
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            relative = path.relative_to(root)
            parts = relative.with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            modules.append(Module(name, relative, path.read_text(encoding="utf-8")))
    return sorted(modules, key=lambda module: module.name)
