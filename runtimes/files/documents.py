"""JSON that somebody else wrote: read within bounds, and understood in one way only."""

from __future__ import annotations

import errno
import json
import math
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 16 << 20
"""The longest manifests, with ten thousand class names and the notes of every layer, have one megabyte."""
DEEPEST = 64
"""Levels of nesting. What Burnish writes has ten; pydantic's own writer stops at 255, and Python at about 1000."""


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: it cannot be read, or is no regular file (a pipe would be waited on for ever).
        ValueError: it is no UTF-8, too large or too deep, or JSON readers do not agree on what it says.
    """
    return parse_json(read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """The bytes of a document, of one that is too large not all. Raises OSError as `read_json` does."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


def parse_json(content: bytes) -> Any:
    """The value of a JSON text. Raises ValueError as `read_json` does."""
    if len(content) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES} bytes")
    try:
        value = json.loads(
            content.decode(), object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite
        )
    except RecursionError as error:
        raise ValueError(f"nested more than {DEEPEST} levels") from error
    if _deeper(value, DEEPEST):
        raise ValueError(f"nested more than {DEEPEST} levels")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Of two values under one key some readers take the first, others the last."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {double!r} is given twice")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def _deeper(value: Any, levels: int) -> bool:
    """Whether a value has more levels of lists and objects than these."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [one for one in layer if isinstance(one, (dict, list))]
        if not layer:
            return False
        layer = [inner for one in layer for inner in (one.values() if isinstance(one, dict) else one)]
    return True
