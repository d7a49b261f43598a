"""Cache of OpenVINO's compiled models: a folder for each artifact and device, LRU eviction.

Several processes may use, fill and prune it at once. Each holds a shared lock on the folder that it
uses, which the kernel releases when the process ends; a folder is removed only under an exclusive
lock.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

from runtimes.artifact.artifact import sha256
from runtimes.files.atomic import write_atomically

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and nothing pruned
    fcntl = None  # type: ignore[assignment]

LIMIT_BYTES = 4 * 10**9
"""Maximum size of the cache, unless more is in use.

A compiled model is as large as its weights, and an artifact has two
(the best sizes, all sizes): this is enough for five of ViT-B/16's size or a hundred of
MobileNetV2's.
"""

_BLOB, _DIGEST = ".blob", ".sha256"
_ATTEMPTS = 100  # each fails only if another process removes the folder at that moment


class BlobFolder:
    """A folder in use: nobody removes it before it is closed, or its process has ended."""

    def __init__(self, path: Path) -> None:
        """Lock the folder. Raises FileNotFoundError if there is none."""
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY) if fcntl else None
        self._release: Callable[[], object] | None = None
        if self._descriptor is not None:
            self._release = weakref.finalize(self, os.close, self._descriptor)
            with contextlib.suppress(OSError):  # a file system without locks, also for prune
                fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def current(self) -> bool:
        """Return whether the locked folder is at its path: it may have been removed before."""
        return self._descriptor is None or _is_at(self._descriptor, self.path)

    def remove_damaged(self) -> None:
        """Remove the blobs that differ from what was written: the engine would read them as they are."""
        for blob in self._blobs():
            listed = blob.with_name(f"{blob.name}{_DIGEST}")
            with contextlib.suppress(OSError):  # another process was faster
                if not listed.is_file() or listed.read_text(encoding="ascii") != sha256(blob):
                    blob.unlink()
                    listed.unlink(missing_ok=True)

    def keep_digests(self) -> None:
        """Write the digests of new blobs beside them."""
        for blob in self._blobs():
            listed = blob.with_name(f"{blob.name}{_DIGEST}")
            with contextlib.suppress(OSError):  # the next session makes the blob again
                if not listed.exists():
                    write_atomically(listed, sha256(blob))

    def _blobs(self) -> list[Path]:
        with contextlib.suppress(OSError):
            return [path for path in self.path.rglob("*") if path.suffix == _BLOB]
        return []

    def close(self) -> None:
        """Let others remove the folder. Closing twice does nothing."""
        if self._release:
            self._release()


def use(root: Path, name: str) -> BlobFolder | None:
    """Return the folder `name` under `root`, created if missing; None if it cannot be written."""
    path = root / name
    try:
        for _ in range(_ATTEMPTS):
            folder = _opened(path)
            if folder is None:
                continue
            if folder.current():
                os.utime(path)  # when it was last used
                return folder if os.access(path, os.W_OK) else None
            folder.close()
    except OSError:
        return None
    return None


def _opened(path: Path) -> BlobFolder | None:
    """Create the folder if it is missing and lock it; None if another process removes it.

    That may also happen within `mkdir`: between finding the path and checking that it is a folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        return BlobFolder(path)
    except (FileExistsError, FileNotFoundError):
        return None


def prune(root: Path, limit: int = LIMIT_BYTES) -> None:
    """Remove the least recently used free folders until the rest has at most `limit` bytes."""
    with contextlib.suppress(OSError):  # a cache that cannot be read or pruned stays as it is
        folders = [path for path in root.iterdir() if path.is_dir()]
        folders.sort(key=lambda path: path.stat().st_mtime)
        sizes = {path: _size(path) for path in folders}
        total = sum(sizes.values())
        for path in folders:
            if total <= limit:
                return
            if _removed(path):
                total -= sizes[path]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _removed(path: Path) -> bool:
    """Remove a folder that nobody uses; return whether it was removed.

    The lock is on the folder that was opened. If another process has removed it and created a new
    one at the path, the new one may be in use, and stays.
    """
    if not fcntl:
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(descriptor, path):
            return False
        shutil.rmtree(path)
    except OSError:  # in use, or not ours to remove
        return False
    finally:
        os.close(descriptor)
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open folder is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
