"""Cache of the results of steps, each under the digest of everything that it depends on.

Two levels, as in ccache. The parts that are known before a step runs (its parameters, the outputs
of earlier steps) find the sets of files that it read the last times. If the files of a set are
unchanged, both together find the entry. An entry gets its name only when it is complete; while a
build uses an entry, it is locked against removal. Several builds may share a cache.
"""

from __future__ import annotations

import contextlib
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
from converters.steps.dependencies import current_digests
from converters.steps.entry import Entry, flush, read_description, read_entry, size_of
from runtimes.errors import BurnishError
from runtimes.files.atomic import write_atomically
from runtimes.files.disks import has_locks, is_readable_name, try_lock

CACHE_LIMIT = 20 << 30
"""Bytes of the cache: some fifty models of a hundred megabytes, with their graphs and artifacts."""
_ENTRIES, _INDEX, _LOCKS, _NEW, _OLD = "entries", "index", "locks", "new", "old"
_ALTERNATIVES = 8  # sets of files that one step may have read: branches of a repository
_ABANDONED_SECONDS = 86400.0  # age of a killed process's leftovers; no step takes a day
_POLL_SECONDS = 0.05
Warn = Callable[[str], object]


@dataclass(frozen=True)
class EntryInfo:
    """An entry as a listing shows it: its folder, its step, its bytes and when it was last used."""

    folder: Path
    description: dict[str, Any]
    size: int
    used: float


@dataclass
class StepCache:
    """The cache in a folder, as one build uses it; the entries it finds stay locked until `close`.

    Attributes:
        folder: need not exist yet.
        home: folder of the recipe; paths of files are relative to it.
        limit: bytes.
    """

    folder: Path
    home: Path
    limit: int = CACHE_LIMIT
    _held: dict[Path, int] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    def problem(self) -> str:
        """Return why nothing can be shared in this folder; "" if it can."""
        if not is_readable_name(self.folder):
            return "its name is not UTF-8"
        existing = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        return "" if has_locks(existing) else "its file system has no locks"

    def find(
        self, first: str, warn: Warn = lambda message: None
    ) -> tuple[Entry | None, dict[str, str]]:
        """Return the entry for the parts known before a step runs, and its files' digests now.

        Without an entry, returns None and the digests that the files of the newest set have now.
        """
        newest: dict[str, str] = {}
        for read in self.alternatives(first):
            now = current_digests(read, self.home, self._digests)
            newest = newest or now
            if now == read and (entry := self._open(_key(first, now), warn)):
                return entry, now
        return None, newest

    def alternatives(self, first: str) -> list[dict[str, str]]:
        """Return the sets of files that the step has read, the newest first."""
        alternatives = []
        try:
            listed = json.loads((self.folder / _INDEX / first).read_text(encoding="utf-8"))
            for read in listed:
                alternatives.append({str(name): str(digest) for name, digest in read.items()})
        except (OSError, ValueError, AttributeError, TypeError):
            return []
        return alternatives

    def _open(self, key: str, warn: Warn) -> Entry | None:
        folder = self.folder / _ENTRIES / key
        if not folder.is_dir() or not self._hold(folder):
            return None
        if (entry := read_entry(folder)) is None:
            self.drop(folder, warn)
        return entry

    def check(self, entry: Entry, warn: Warn) -> bool:
        """Return whether an entry's files are intact; a damaged entry is removed with a warning."""
        if entry.is_intact():
            return True
        self.drop(entry.folder, warn)
        return False

    def drop(self, folder: Path, warn: Warn) -> None:
        """Remove a damaged entry."""
        name = folder.name[:12]
        warn(f"cache entry {name} was damaged: its step runs again")
        with contextlib.suppress(OSError):  # another build was faster
            aside = self._scratch(_OLD)
            folder.rename(aside / name)
            shutil.rmtree(aside, ignore_errors=True)
        self._release(folder)

    def scratch(self) -> Path:
        """Create a folder to make an entry in, on the same disk.

        Raises OSError if nothing can be cached.
        """
        return self._scratch(_NEW)

    def _scratch(self, kind: str) -> Path:
        (self.folder / kind).mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.folder / kind))

    def put(self, first: str, read: Mapping[str, str], folder: Path) -> Entry:
        """Give a finished and sealed folder its name; an entry of that name is replaced.

        An entry in use is not replaced. If it is identical it is reused; otherwise `folder` serves
        this build only.
        """
        entry = self.folder / _ENTRIES / _key(first, read)
        entry.parent.mkdir(parents=True, exist_ok=True)
        # First: a build that is killed in between leaves a set without an entry, which is skipped.
        # An entry without its set would never be found.
        self._index(first, dict(read))
        with contextlib.suppress(OSError):  # there is none, or another build was faster
            self._remove(entry)
        self._hold(entry)
        with contextlib.suppress(OSError):  # in use
            folder.rename(entry)
        if folder.exists():
            in_use, new = Entry.at(entry), Entry.at(folder)
            if in_use.digest != new.digest or not in_use.is_intact():
                return new
            shutil.rmtree(folder)
        flush(entry.parent)
        return Entry.at(entry)

    def _index(self, first: str, read: dict[str, str]) -> None:
        """Put a set of files first among the alternatives of a step."""
        (self.folder / _INDEX).mkdir(exist_ok=True)
        older = [alternative for alternative in self.alternatives(first) if alternative != read]
        newest = [read, *older][:_ALTERNATIVES]
        write_atomically(self.folder / _INDEX / first, json.dumps(newest))

    @contextlib.contextmanager
    def making(
        self, first: str, stopped: Callable[[], bool], on_wait: Callable[[], object]
    ) -> Iterator[None]:
        """Lock a step while it is made, so that no other build makes the same one.

        If another build makes it already, calls `on_wait` once and waits.
        """
        try:
            (self.folder / _LOCKS).mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / _LOCKS / first, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:  # nothing can be cached, by no other build either
            yield
            return
        try:
            waiting = False
            while not try_lock(handle):
                if not waiting:
                    on_wait()
                waiting = True
                if stopped():
                    raise BurnishError("the build was interrupted")
                time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(handle)

    def _hold(self, entry: Path) -> bool:
        """Lock an entry against removal, until `close`."""
        if entry in self._held:
            return True
        try:
            (self.folder / _LOCKS).mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / _LOCKS / entry.name, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:  # read-only: nobody can remove anything
            return True
        if not try_lock(handle, shared=True):
            os.close(handle)
            return False
        self._held[entry] = handle
        return True

    def _release(self, entry: Path) -> None:
        if (handle := self._held.pop(entry, None)) is not None:
            os.close(handle)

    def release(self) -> None:
        """Release the locks on all entries."""
        for entry in list(self._held):
            self._release(entry)

    def close(self) -> None:
        """Release the locks on all entries, and trim the cache to its limit."""
        self.release()
        with contextlib.suppress(OSError):  # nothing was cached, or nothing may be removed
            self.trim(self.limit)

    def entries(self) -> list[EntryInfo]:
        """Return every entry, the last used first."""
        infos = []
        for folder in _children(self.folder / _ENTRIES):
            with contextlib.suppress(OSError):  # another build removes it
                used = folder.stat().st_mtime
                infos.append(EntryInfo(folder, read_description(folder), size_of(folder), used))
        return sorted(infos, key=lambda info: info.used, reverse=True)

    def trim(self, limit: int) -> int:
        """Remove the least recently used entries until the others are within `limit` bytes.

        Entries in use stay. Returns the bytes that were removed. Raises OSError if nothing may be
        removed.
        """
        total = removed = 0
        for info in self.entries():
            total += info.size
            if total > limit and self._remove(info.folder):
                removed += info.size
        for kind in (_NEW, _OLD):
            for abandoned in _children(self.folder / kind):
                if time.time() - abandoned.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(abandoned, ignore_errors=True)
        return removed

    def _remove(self, entry: Path) -> bool:
        lock = self.folder / _LOCKS / entry.name
        lock.parent.mkdir(exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not try_lock(handle):
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


def _children(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
