"""Stores that last between builds: folders, each under the key of everything that it depends on.

An entry is complete before it has its name, and its digests are compared whenever it is read. If
the store itself fails (no permission, no room, a damaged file), the work is only done again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from converters.steps.entry import flush, size_of
from runtimes.artifact.artifact import sha256

STORE_LIMIT = 4 << 30
"""Bytes of a store: forty graphs of a hundred megabytes, and no more than an installed torch."""
_DIGESTS = "digests.json"
_NEW, _OLD = ".new-", ".old-"
_ABANDONED_SECONDS = 86400.0  # age of a killed process's leftovers; no copy takes a day


@dataclass(frozen=True)
class Store:
    """Folders under keys, of at most `limit` bytes; the least recently used are removed."""

    folder: Path
    limit: int = STORE_LIMIT

    def get(self, key: str, target: Path, warn: Callable[[str], object]) -> bool:
        """Copy the entry of `key` to `target`, which must not exist yet.

        Returns:
            Whether there was an entry. A damaged one is removed, and `warn` is called.
        """
        entry = self.folder / key
        if (inode := _inode(entry)) is None:
            return False
        try:
            shutil.copytree(entry, target)
            listed = json.loads((target / _DIGESTS).read_text(encoding="utf-8"))
            (target / _DIGESTS).unlink()
            intact = _digests(target) == listed
        except (OSError, ValueError):
            intact = False
        if intact:
            with contextlib.suppress(OSError):  # a read-only folder serves as well
                os.utime(entry)
            return True
        shutil.rmtree(target, ignore_errors=True)
        if _inode(entry) == inode:  # else another process has removed or replaced it meanwhile
            _drop(entry)
            warn(f"cache entry {self.folder.name}/{key[:12]} was damaged: it was computed again")
        return False

    @contextlib.contextmanager
    def making(self, key: str) -> Iterator[None]:
        """Lock `key`; a second process waits, then finds the finished entry."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # nothing can be stored: each process makes its own
                locks = self.folder.with_name(f"{self.folder.name}.locks")
                locks.mkdir(parents=True, exist_ok=True)
                handle = os.open(locks / key, os.O_RDWR | os.O_CREAT, 0o644)
                stack.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def put(self, key: str, folder: Path) -> None:
        """Store a copy of `folder`.

        Does nothing if another process has stored one meanwhile, or if it cannot be stored here.
        """
        with contextlib.suppress(OSError):
            if size_of(folder) <= self.limit:
                self._write(key, folder)
            self._trim()

    def _write(self, key: str, folder: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=_NEW, dir=self.folder))
        try:
            shutil.copytree(folder, scratch, dirs_exist_ok=True)
            (scratch / _DIGESTS).write_text(json.dumps(_digests(folder)), encoding="utf-8")
            for path in (*scratch.rglob("*"), scratch):
                flush(path)
            scratch.rename(self.folder / key)  # fails if the key has a folder already, which stays
            flush(self.folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _trim(self) -> None:
        """Remove the least recently used entries over the limit, and abandoned scratch folders."""
        ages = {path: path.stat().st_mtime for path in self.folder.iterdir()}
        total = 0
        for path in sorted(ages, key=lambda path: ages[path], reverse=True):
            if path.name.startswith((_NEW, _OLD)):
                if time.time() - ages[path] > _ABANDONED_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)
                continue
            total += size_of(path)
            if total > self.limit:
                _drop(path)


def _drop(entry: Path) -> None:
    """Take an entry's name away first, then its files, so that nobody finds half of it."""
    with contextlib.suppress(OSError):  # another process was faster, or the folder is read-only
        aside = entry.with_name(f"{_OLD}{os.getpid()}-{entry.name}")
        entry.rename(aside)
        shutil.rmtree(aside) if aside.is_dir() else aside.unlink()


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in folder.rglob("*"):
        if path.is_file():
            digests[path.relative_to(folder).as_posix()] = sha256(path)
    return digests


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
