"""Results of steps, kept between builds under the digest of all that they depend on; several builds may share them.

Two levels, as in ccache. What is known before a step runs (its parameters, what earlier steps made) finds the sets
of files that it read the last times; where the files of a set are what they were, both together find the entry.
An entry has its name only when it is complete; while somebody uses one, it is locked against being removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.digest import Key
from converters.steps.trace import current
from runtimes.artifact.artifact import sha256
from runtimes.errors import BurnishError
from runtimes.files.atomic import write_atomically

CACHE_LIMIT = 20 << 30
"""Bytes that are kept: some fifty models of a hundred megabytes, with the graphs and artifacts made from them."""
RESULT, STEP, DIGESTS, FILES = "result.json", "step.json", "digests.json", "files"
_ENTRIES, _INDEX, _LOCKS, _NEW, _OLD = "entries", "index", "locks", "new", "old"
_ALTERNATIVES = 8  # sets of files that one step may have been made from: branches of a repository
_ABANDONED_SECONDS = 86400.0  # what a killed process left behind; no step takes a day
_POLL_SECONDS = 0.05
Warn = Callable[[str], object]


@dataclass(frozen=True)
class Entry:
    """A step's result in the cache, or in a scratch folder where nothing is kept.

    Attributes:
        folder: holds `files`, result.json, digests.json.
        digest: of all that.
    """

    folder: Path
    digest: str

    @property
    def files(self) -> Path:
        """The folder of the step's files."""
        return self.folder / FILES

    def result(self) -> str:
        """What the step returned, as JSON."""
        return (self.folder / RESULT).read_text(encoding="utf-8")

    def is_whole(self) -> bool:
        """Whether every file is what it was when it was made."""
        try:
            return bool(digests(self.folder) == json.loads((self.folder / DIGESTS).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return False


def seal(folder: Path) -> Entry:
    """Write the digests of a finished folder, and have all of it on the disk."""
    (folder / DIGESTS).write_text(json.dumps(digests(folder), sort_keys=True), encoding="utf-8")
    for path in (*folder.rglob("*"), folder):
        _flush(path)
    return _entry(folder)


def digests(folder: Path) -> dict[str, str]:
    """sha256 of the result and of every file."""
    listed = (path for path in folder.rglob("*") if path.is_file() and path.name not in (DIGESTS, STEP))
    return {path.relative_to(folder).as_posix(): sha256(path) for path in listed}


def digest_of(folder: Path) -> str:
    """The digest of an entry; of one that has lost its list of digests, nothing's."""
    return sha256(folder / DIGESTS) if (folder / DIGESTS).is_file() else ""


def _entry(folder: Path) -> Entry:
    return Entry(folder, digest_of(folder))


def _read(folder: Path) -> Entry | None:
    """An entry whose result is what it was; None for a damaged one. Its files are compared by `check`."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        if sha256(folder / RESULT) == known[RESULT]:
            with contextlib.suppress(OSError):  # a cache that may only be read serves all the same
                os.utime(folder)
            return _entry(folder)
    return None


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass
class StepCache:
    """The cache in a folder, as one build uses it; what it has found stays locked until `close`.

    Attributes:
        folder: need not exist yet.
        home: folder of the recipe, whose files are told relative to it.
        limit: bytes.
    """

    folder: Path
    home: Path
    limit: int = CACHE_LIMIT
    _held: dict[Path, int] = field(default_factory=dict)
    _known: dict[str, str] = field(default_factory=dict)

    def find(self, first: str, warn: Warn = lambda message: None) -> tuple[Entry | None, dict[str, str]]:
        """The entry for what is known before a step runs, and what its files are now.

        Returns None where there is none, with what the files of the newest set are now.
        """
        seen: dict[str, str] = {}
        for read in self.alternatives(first):
            now = current(read, self.home, self._known)
            seen = seen or now
            if now == read and (entry := self._open(_key(first, now), warn)):
                return entry, now
        return None, seen

    def alternatives(self, first: str) -> list[dict[str, str]]:
        """The sets of files that the step was made from, the newest first."""
        try:
            found = json.loads((self.folder / _INDEX / first).read_text(encoding="utf-8"))
            return [{str(name): str(digest) for name, digest in one.items()} for one in found]
        except (OSError, ValueError, AttributeError):
            return []

    def _open(self, key: str, warn: Warn) -> Entry | None:
        folder = self.folder / _ENTRIES / key
        if not folder.is_dir() or not self._hold(folder):
            return None
        if (entry := _read(folder)) is None:
            self.drop(folder, warn)
        return entry

    def check(self, entry: Entry, warn: Warn) -> bool:
        """Whether an entry's files are whole; what is damaged is removed, and `warn` is told."""
        if entry.is_whole():
            return True
        self.drop(entry.folder, warn)
        return False

    def drop(self, folder: Path, warn: Warn) -> None:
        """Remove a damaged entry."""
        name = folder.name[:12]
        warn(f"an entry of the cache ({name}) was damaged: it is made anew")
        with contextlib.suppress(OSError):  # another build was faster
            aside = self._scratch(_OLD)
            folder.rename(aside / name)
            shutil.rmtree(aside, ignore_errors=True)
        self._release(folder)

    def scratch(self) -> Path:
        """A new folder to make an entry in, on the same disk. Raises OSError where nothing can be kept."""
        return self._scratch(_NEW)

    def _scratch(self, kind: str) -> Path:
        (self.folder / kind).mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.folder / kind))

    def put(self, first: str, read: Mapping[str, str], folder: Path) -> Entry:
        """Give a finished and sealed folder its name, in place of what had it: that was damaged, or not wanted.

        What a build is using stays. Where that is the same it is taken, else `folder` stays what it is: for this
        build alone.
        """
        entry = self.folder / _ENTRIES / _key(first, read)
        entry.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # there is none, or another build was faster
            self._remove(entry)
        self._hold(entry)
        with contextlib.suppress(OSError):  # in use
            folder.rename(entry)
        if folder.exists():
            there = _entry(entry)
            if there.digest != digest_of(folder) or not there.is_whole():
                return _entry(folder)
            shutil.rmtree(folder)
        _flush(entry.parent)
        (self.folder / _INDEX).mkdir(exist_ok=True)
        others = [one for one in self.alternatives(first) if one != dict(read)]
        write_atomically(self.folder / _INDEX / first, json.dumps([dict(read), *others][:_ALTERNATIVES]))
        return _entry(entry)

    @contextlib.contextmanager
    def making(self, first: str, stopped: Callable[[], bool], waits: Callable[[], object]) -> Iterator[None]:
        """While inside, no other build makes the same step. `waits` is told once where one does so already."""
        try:
            (self.folder / _LOCKS).mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / _LOCKS / first, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:  # nothing can be kept here, so that nobody else does either
            yield
            return
        try:
            told = False
            while not _lock(handle, fcntl.LOCK_EX):
                if not told:
                    waits()
                told = True
                if stopped():
                    raise BurnishError("the build was interrupted")
                time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(handle)

    def _hold(self, entry: Path) -> bool:
        """Lock an entry against being removed, until `close`."""
        if entry in self._held:
            return True
        try:
            (self.folder / _LOCKS).mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / _LOCKS / entry.name, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:  # may only be read: then nobody removes anything
            return True
        if not _lock(handle, fcntl.LOCK_SH):
            os.close(handle)
            return False
        self._held[entry] = handle
        return True

    def _release(self, entry: Path) -> None:
        if (handle := self._held.pop(entry, None)) is not None:
            os.close(handle)

    def release(self) -> None:
        """Let go of everything."""
        for entry in list(self._held):
            self._release(entry)

    def close(self) -> None:
        """Let go of everything, and keep the cache within its limit."""
        self.release()
        with contextlib.suppress(OSError):  # nothing was kept, or may not be removed
            self.trim(self.limit)

    def entries(self) -> list[tuple[Path, dict[str, Any], int, float]]:
        """Every entry: its folder, what its step was, its bytes, when it was last used; the newest first."""
        found = []
        for folder in (self.folder / _ENTRIES).iterdir() if (self.folder / _ENTRIES).is_dir() else ():
            with contextlib.suppress(OSError):  # another build removes it
                found.append((folder, _description(folder), _size(folder), folder.stat().st_mtime))
        return sorted(found, key=lambda one: one[3], reverse=True)

    def trim(self, limit: int) -> int:
        """Remove what was not used for longest, and is not in use, until the rest is within `limit` bytes.

        Returns the bytes that were removed. Raises OSError where nothing may be removed.
        """
        held = removed = 0
        for folder, _, size, _ in self.entries():
            held += size
            if held > limit and self._remove(folder):
                removed += size
        for kind in (_NEW, _OLD):
            for left in (self.folder / kind).iterdir() if (self.folder / kind).is_dir() else ():
                if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
        return removed

    def _remove(self, entry: Path) -> bool:
        lock = self.folder / _LOCKS / entry.name
        lock.parent.mkdir(exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _lock(handle, fcntl.LOCK_EX):
                return False
            aside = self._scratch(_OLD)
            entry.rename(aside / entry.name)
            shutil.rmtree(aside)
            return True
        finally:
            os.close(handle)


def _key(first: str, read: Mapping[str, str]) -> str:
    key = Key()
    key.add("step", first)
    for name, digest in sorted(read.items()):
        key.add(name, digest)
    return key.hex()


def _description(entry: Path) -> dict[str, Any]:
    """What an entry's step was; nothing where that is damaged: it takes room all the same."""
    try:
        found = json.loads((entry / STEP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lock(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
