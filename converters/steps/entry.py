"""An entry of the step cache: a folder with a step's files, its result and their digests."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtimes.artifact.artifact import sha256

RESULT, STEP, DIGESTS, FILES = "result.json", "step.json", "digests.json", "files"


@dataclass(frozen=True)
class Entry:
    """A step's result in the cache, or in a scratch folder if it cannot be cached.

    Attributes:
        folder: holds `files`, result.json, digests.json.
        digest: of all of these.
    """

    folder: Path
    digest: str

    @classmethod
    def at(cls, folder: Path) -> Entry:
        """Return the entry in a folder; its digest is empty if its list of digests is missing."""
        listed = folder / DIGESTS
        return cls(folder, sha256(listed) if listed.is_file() else "")

    @property
    def files(self) -> Path:
        """Folder of the step's files."""
        return self.folder / FILES

    def result(self) -> str:
        """Return the value that the step returned, as JSON."""
        return (self.folder / RESULT).read_text(encoding="utf-8")

    def is_intact(self) -> bool:
        """Return whether every file has the digest that it had when it was written."""
        try:
            return digests(self.folder) == _listed_digests(self.folder)
        except (OSError, ValueError):
            return False


def seal(folder: Path) -> Entry:
    """Write the digests of a finished folder, and flush all of it to the disk."""
    (folder / DIGESTS).write_text(json.dumps(digests(folder), sort_keys=True), encoding="utf-8")
    for path in (*folder.rglob("*"), folder):
        flush(path)
    return Entry.at(folder)


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of the result and of every file."""
    by_name = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in (DIGESTS, STEP):
            by_name[path.relative_to(folder).as_posix()] = sha256(path)
    return by_name


def read_entry(folder: Path) -> Entry | None:
    """Return an entry whose result is intact; None if it is damaged.

    Its files are not compared: `Entry.is_intact` does that.
    """
    with contextlib.suppress(OSError, ValueError, KeyError):
        if sha256(folder / RESULT) == _listed_digests(folder)[RESULT]:
            with contextlib.suppress(OSError):  # a read-only cache serves as well
                os.utime(folder)
            return Entry.at(folder)
    return None


def read_description(folder: Path) -> dict[str, Any]:
    """Return the description of an entry's step; empty if it is damaged."""
    try:
        description = json.loads((folder / STEP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return description if isinstance(description, dict) else {}


def flush(path: Path) -> None:
    """Flush a file or folder to the disk; not all file systems can flush a folder."""
    handle = os.open(path, os.O_RDONLY)
    can_fail = path.is_dir()
    try:
        with contextlib.suppress(*([OSError] if can_fail else [])):
            os.fsync(handle)
    finally:
        os.close(handle)


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _listed_digests(folder: Path) -> dict[str, str]:
    listed: dict[str, str] = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    return listed
