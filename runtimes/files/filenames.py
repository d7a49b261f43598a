"""Names of an artifact's files: the same file on every system, inside the artifact's folder."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath

MOST_FILES = 10_000
_LONGEST = 255  # bytes of one part of a path, which is what file systems take
_DEEPEST = 64


def outside(name: str) -> bool:
    """Return whether a name may lead out of the folder, on this system or another."""
    path = PurePosixPath(name)
    return (
        path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or bool(PureWindowsPath(name).drive)
    )


def unfit(name: str) -> str | None:
    """Return why `name`, a relative POSIX path, is not a legal file name, or None."""
    parts = name.split("/")
    if not all(parts) or "." in parts:
        return "it is not a plain path"
    if not name.isprintable():
        return "it has control characters"
    if len(parts) > _DEEPEST or any(len(part.encode()) > _LONGEST for part in parts):
        return "it is too long"
    return None


def collision(names: Iterable[str]) -> tuple[str, str] | None:
    """Return two names that are one file if case does not count (macOS, Windows), or None."""
    by_folded: dict[str, str] = {}
    for name in names:
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in by_folded:
            return by_folded[folded], name
        by_folded[folded] = name
    return None
