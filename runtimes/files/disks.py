"""Abilities of disks: locks (`flock`), which some network file systems lack, free inodes, names."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_MISSING = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def try_lock(handle: int, *, shared: bool = False) -> bool:
    """Lock an open file or folder without waiting; return False if another process holds it.

    Raises OSError if its file system has no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOSYS, "this system has no flock")
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(handle, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def has_locks(folder: Path) -> bool:
    """Return whether the file system of an existing folder has locks."""
    with contextlib.ExitStack() as stack:
        try:
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            try_lock(handle, shared=True)
        except OSError as error:
            return error.errno not in _MISSING
    return True


def has_inodes(folder: Path) -> bool:
    """Return whether more files can be created, as far as their number is limited."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return True
    return not status.f_files or status.f_favail > 0


def is_readable_name(path: Path) -> bool:
    """Return whether a path is text: names on a disk may be any bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
