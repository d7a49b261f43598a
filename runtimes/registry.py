"""Named plug-ins: what this repository ships, and what other packages add through entry points."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from runtimes.errors import UsageError


def nearest(word: str, known: object) -> str:
    """A hint such as "; did you mean 'onnx'?", or the list of what there is, or nothing."""
    words = sorted(map(str, known))  # type: ignore[call-overload]
    if close := difflib.get_close_matches(word, words, n=1, cutoff=0.55):
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(words)}" if 0 < len(words) <= 12 else ""


class Registry:
    """Names to objects, each imported on first use. An entry point never replaces what is shipped."""

    def __init__(self, kind: str, group: str, shipped: Mapping[str, str]) -> None:
        """`shipped` maps a name to "module:attribute"; `group` is the entry-point group of third parties."""
        self.kind, self.group, self.shipped = kind, group, dict(shipped)

    def names(self) -> list[str]:
        """Every name, shipped ones first."""
        return [*self.shipped, *(name for name in sorted(_plugins(self.group)) if name not in self.shipped)]

    def get(self, name: str) -> Any:
        """The object called `name`. Raises UsageError with the nearest name where there is none."""
        if name in self.shipped:
            module, attribute = self.shipped[name].split(":")
            return getattr(importlib.import_module(module), attribute)
        if name in (plugins := _plugins(self.group)):
            return plugins[name].load()
        raise UsageError(f"unknown {self.kind} {name!r}{nearest(name, self.names())}")


@cache
def _plugins(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}
