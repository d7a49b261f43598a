"""Names of files that a manifest lists: the same file on every system, and inside the artifact's folder."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath

MOST_FILES = 10_000
_LONGEST = 255  # bytes of one part of a path, which is what file systems take
_DEEPEST = 64


def outside(name: str) -> bool:
    """Whether a name may lead out of the folder, on this system or another."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name or bool(PureWindowsPath(name).drive)


def unfit(name: str) -> str | None:
    """Why no file of an artifact may be called `name`, or None. Names are as_posix() of a relative path."""
    parts = name.split("/")
    if not all(parts) or "." in parts:
        return "it is not a plain path"
    if not name.isprintable():
        return "it has control characters"
    if len(parts) > _DEEPEST or any(len(part.encode()) > _LONGEST for part in parts):
        return "it is too long"
    return None


def collision(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that are one file where case does not count, as on macOS and Windows; None where there are none."""
    seen: dict[str, str] = {}
    for name in names:
        plain = unicodedata.normalize("NFC", name).casefold()
        if plain in seen:
            return seen[plain], name
        seen[plain] = name
    return None
