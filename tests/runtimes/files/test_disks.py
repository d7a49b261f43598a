"""Disks without locks, without inodes, with names that are no text."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from runtimes.files.disks import has_inodes, has_locks, is_readable_name, try_lock


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    handles = [os.open(tmp_path, os.O_RDONLY) for _ in range(2)]
    assert try_lock(handles[0]) and not try_lock(handles[1])
    os.close(handles[0])
    assert try_lock(handles[1], shared=True)
    os.close(handles[1])


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    assert has_locks(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    assert not has_locks(tmp_path)


def test_inodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_inodes(tmp_path)
    status = os.statvfs(tmp_path)

    class Full:
        f_files, f_favail = max(1, status.f_files), 0

    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    assert not has_inodes(tmp_path)


def test_a_name_may_be_no_text() -> None:
    assert is_readable_name(Path("/häuser/模型"))
    assert not is_readable_name(Path(os.fsdecode(b"/caf\xe9")))
