"""Named plug-ins: those shipped here, and those that packages add through entry points."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from runtimes.errors import UsageError


def nearest(word: str, names: Iterable[object]) -> str:
    """Return a hint such as "; did you mean 'onnx'?", or the list of names, or nothing."""
    words = sorted(map(str, names))
    if close := difflib.get_close_matches(word, words, n=1, cutoff=0.55):
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(words)}" if 0 < len(words) <= 12 else ""


class Registry:
    """Objects by name, imported on first use. An entry point never replaces a shipped object."""

    def __init__(self, kind: str, group: str, shipped: Mapping[str, str]) -> None:
        """`shipped` maps names to "module:attribute"; `group` is the group of entry points."""
        self.kind, self.group, self.shipped = kind, group, dict(shipped)

    def names(self) -> list[str]:
        """Return all names, shipped ones first."""
        added = set(_plugins(self.group)) - set(self.shipped)
        return [*self.shipped, *sorted(added)]

    def get(self, name: str) -> Any:
        """Return the object called `name`. Raises UsageError with the nearest name if unknown."""
        if name in self.shipped:
            module, attribute = self.shipped[name].split(":")
            return getattr(importlib.import_module(module), attribute)
        if name in (plugins := _plugins(self.group)):
            return plugins[name].load()
        raise UsageError(f"unknown {self.kind} {name!r}{nearest(name, self.names())}")


@cache
def _plugins(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}
