"""JSON of unknown origin: read within bounds, with one interpretation only."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from runtimes.files.regular import open_regular

MOST_BYTES = 16 << 20
"""Longest document. The largest manifests, with ten thousand classes and notes, have 1 MB."""
DEEPEST = 64
"""Levels of nesting. Burnish writes ten; pydantic's writer stops at 255, Python at about 1000."""


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError: it cannot be read, or is not a regular file (reading a pipe would never end).
        ValueError: it is not UTF-8, too large or too deep, or ambiguous to JSON readers.
    """
    return parse_json(read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """Read a document, or a part if it is too large. Raises OSError as `read_json` does."""
    with open_regular(path) as file:
        return file.read(MOST_BYTES + 1)


def parse_json(content: bytes) -> Any:
    """Parse a JSON text. Raises ValueError as `read_json` does."""
    if len(content) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES} bytes")
    try:
        value = json.loads(
            content.decode(),
            object_pairs_hook=_unique,
            parse_constant=_no_number,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise ValueError(f"nested more than {DEEPEST} levels") from error
    if _deeper(value, DEEPEST):
        raise ValueError(f"nested more than {DEEPEST} levels")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. Of two values of one key some readers take the first, others the last."""
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"the key {name!r} is given twice")
        members[name] = value
    return members


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _deeper(value: Any, levels: int) -> bool:
    """Return whether lists and objects are nested in more than `levels` levels."""
    nested = [value]
    for _ in range(levels + 1):
        containers = [item for item in nested if isinstance(item, (dict, list))]
        if not containers:
            return False
        nested = []
        for container in containers:
            nested += container.values() if isinstance(container, dict) else container
    return True
