"""Regular files, opened at once: a pipe would wait for its writer, a device may never end."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_FLAGS |= getattr(os, "O_BINARY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


def open_regular(path: str | Path, follow: bool = True) -> BufferedReader:
    """Open a file to read its bytes.

    Args:
        path: the file.
        follow: also open what a link leads to, if that is a regular file.

    Raises OSError: there is no such file, or it is a folder, a pipe, a device or a socket (at once,
    whoever may be writing into it), or a link without `follow`.
    """
    check_regular(path, follow)
    # The flags are for what may take the file's place meanwhile.
    file = open(path, "rb", opener=lambda name, _: os.open(name, _flags(follow)))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _irregular(path)
    return file


def check_regular(path: str | Path, follow: bool = True) -> None:
    """Raise OSError as `open_regular` does: before a library opens the file by its name."""
    mode = os.stat(path, follow_symlinks=follow).st_mode  # noqa: PTH116 - a path may be a text
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, "a link, not a file: copy what it leads to", str(path))
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise _irregular(path)


def _flags(follow: bool) -> int:
    return _FLAGS if follow else _FLAGS | _NO_FOLLOW


def _irregular(path: str | Path) -> OSError:
    return OSError(errno.EINVAL, "not a regular file", str(path))
