"""A parser of YAML that stops as soon as a recipe cannot be right.

PyYAML needs seconds for a long file that the checks after it would refuse.
"""

from __future__ import annotations

from typing import Any

import yaml

Keys = tuple[str | int, ...]


class Unread(Exception):
    """The rest of a document is not read: its message says why.

    Attributes:
        line: where reading stopped, counted from 1.
        keys: path of the value there; empty if the document as a whole is wrong.
    """

    def __init__(self, message: str, line: int, keys: Keys = ()) -> None:
        super().__init__(message)
        self.line, self.keys = line, keys


class LimitedLoader(yaml.SafeLoader):
    """Reads up to the first key that is given twice in a mapping, or to a number of nodes."""

    def __init__(self, text: str, most_nodes: int) -> None:
        super().__init__(text)
        self._left = most_nodes
        self._path: list[str | int] = []
        self._keys: dict[int, set[tuple[str, str]]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose the next node; `index` is its key in `parent`, None for a key. Raises Unread."""
        self._left -= 1
        if self._left < 0:
            line = self.line + 1
            raise Unread("too large or too deeply nested for a recipe", line)
        steps = len(self._path)
        if index is not None:
            self._path.append(index.value if isinstance(index, yaml.ScalarNode) else index)
        node = super().compose_node(parent, index)
        del self._path[steps:]
        if index is None and isinstance(parent, yaml.MappingNode):
            self._check_key(parent, node)
        return node

    def _check_key(self, parent: yaml.Node, key: yaml.Node | None) -> None:
        if not isinstance(key, yaml.ScalarNode):
            return
        keys = self._keys.setdefault(id(parent), set())
        if (key.tag, key.value) in keys:
            line = key.start_mark.line + 1
            raise Unread("is given twice", line, (*self._path, key.value))
        keys.add((key.tag, key.value))
