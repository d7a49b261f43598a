"""What is kept between builds: folders, each under the key of everything that it depends on.

An entry is complete before it has its name, and its digests are compared whenever it is read. Whatever goes wrong
with the store itself (no permission, no room, a damaged file) only means that the work is done again.
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

from runtimes.artifact.artifact import sha256

STORE_LIMIT = 4 << 30
"""Bytes that a store may hold: forty graphs of a hundred megabytes, and no more than an installed torch."""
_DIGESTS = "digests.json"
_NEW, _OLD = ".new-", ".old-"
_ABANDONED_SECONDS = 86400.0  # what a process left behind when it was killed; no copy takes a day


@dataclass(frozen=True)
class Store:
    """Folders under keys, of at most `limit` bytes together; those that were not used for longest go first."""

    folder: Path
    limit: int = STORE_LIMIT

    def get(self, key: str, target: Path, warn: Callable[[str], object]) -> bool:
        """Copy what is kept under `key` to `target`, which must not exist yet.

        Returns:
            Whether there was something. What turns out to be damaged is removed, and `warn` is told.
        """
        entry = self.folder / key
        if (found := _inode(entry)) is None:
            return False
        try:
            shutil.copytree(entry, target)
            listed = json.loads((target / _DIGESTS).read_text(encoding="utf-8"))
            (target / _DIGESTS).unlink()
            whole = _digests(target) == listed
        except (OSError, ValueError):
            whole = False
        if whole:
            with contextlib.suppress(OSError):  # a folder that may only be read serves all the same
                os.utime(entry)
            return True
        shutil.rmtree(target, ignore_errors=True)
        if _inode(entry) == found:  # else another process has removed it meanwhile, or put a new one
            _drop(entry)
            warn(f"what {self.folder.name}/{key[:12]} in the cache folder held was damaged: it was made anew")
        return False

    @contextlib.contextmanager
    def making(self, key: str) -> Iterator[None]:
        """While inside, nobody else makes what `key` stands for: who comes second waits, and finds it."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # nothing can be kept here: each makes its own
                locks = self.folder.with_name(f"{self.folder.name}.locks")
                locks.mkdir(parents=True, exist_ok=True)
                handle = os.open(locks / key, os.O_RDWR | os.O_CREAT, 0o644)
                stack.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def put(self, key: str, folder: Path) -> None:
        """Keep a copy of `folder`, unless another process has kept one meanwhile, or it cannot be kept here."""
        with contextlib.suppress(OSError):
            if _size(folder) <= self.limit:
                self._write(key, folder)
            self._trim()

    def _write(self, key: str, folder: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=_NEW, dir=self.folder))
        try:
            shutil.copytree(folder, scratch, dirs_exist_ok=True)
            (scratch / _DIGESTS).write_text(json.dumps(_digests(folder)), encoding="utf-8")
            for path in (*scratch.rglob("*"), scratch):
                _flush(path)
            scratch.rename(self.folder / key)  # fails where the key has a folder already, which then stays
            _flush(self.folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _trim(self) -> None:
        """Remove what was not used for longest until the rest is within the limit, and what others left behind."""
        ages = {path: path.stat().st_mtime for path in self.folder.iterdir()}
        held = 0
        for path in sorted(ages, key=lambda path: ages[path], reverse=True):
            if path.name.startswith((_NEW, _OLD)):
                if time.time() - ages[path] > _ABANDONED_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)
                continue
            held += _size(path)
            if held > self.limit:
                _drop(path)


def _drop(entry: Path) -> None:
    """Take an entry's name away at once, then its files: nobody finds half of it."""
    with contextlib.suppress(OSError):  # another process was faster, or the folder may only be read
        aside = entry.with_name(f"{_OLD}{os.getpid()}-{entry.name}")
        entry.rename(aside)
        shutil.rmtree(aside) if aside.is_dir() else aside.unlink()


def _digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _flush(path: Path) -> None:
    """Have the file or folder written to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
