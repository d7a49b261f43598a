"""Disks that lack something: builds go on, or say why not before any work."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtimes.errors import UsageError
from runtimes.results import Status

ONE = "  torchscript: {}"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_without_locks_only_the_cache_is_done_without(
    lab: Any, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    result = lab.converted(lab.recipe(artifacts=ONE))
    assert {row.status for row in result.artifacts} == {Status.PASSED}
    assert any("no results are cached" in note and "no locks" in note for note in result.notes)
    assert any("run no other build into it" in note for note in result.notes)


def test_a_folder_that_cannot_be_flushed_costs_nothing(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync

    def fail(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        flush(handle)

    monkeypatch.setattr(os, "fsync", fail)
    written = lab.recipe(artifacts=ONE)
    for _ in range(2):
        result = lab.converted(written)
        assert {row.status for row in result.artifacts} == {Status.PASSED}
    assert not any("cached for the next build" in note for note in result.notes)


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    """A disk with room, on which no more file can be created."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "nr_inodes=3", "tmpfs", str(folder)]
    is_linux = sys.platform.startswith("linux")
    if not is_linux or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("such a disk can only be mounted by root, on Linux")
    for name in ("a", "b"):
        (folder / name).touch()
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_without_a_free_inode_is_refused_by_name(lab: Any, few_inodes: Path) -> None:
    with pytest.raises(UsageError, match="no inode is free"):
        lab.converted(lab.recipe(), output=few_inodes / "out")


def test_a_cache_without_a_free_inode_costs_only_time(
    lab: Any, few_inodes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(few_inodes))
    result = lab.converted(lab.recipe(artifacts=ONE))
    assert {row.status for row in result.artifacts} == {Status.PASSED}
    assert any("no results are cached" in note for note in result.notes)


def test_a_name_that_is_no_text_is_refused_before_any_work(lab: Any, tmp_path: Path) -> None:
    output = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(UsageError, match=r"caf\\xe9 is not UTF-8"):
        lab.converted(lab.recipe(), output=output)
    assert not output.exists()


def test_a_build_in_the_c_locale_passes(lab: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "burnish", "convert", str(lab.recipe(artifacts=ONE))]
    environment = {**os.environ, "PYTHONPATH": str(lab.root), "LC_ALL": "C"}
    environment |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = subprocess.run(
        [*command, "-o", str(tmp_path / "out"), "--no-speed"],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")
