"""Only regular files are read; nothing waits for a pipe or a device."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from runtimes.files.regular import check_regular, open_regular

READERS = (open_regular, check_regular)


@pytest.fixture
def irregular(tmp_path: Path) -> dict[str, Path]:
    """A pipe, a device, a folder and links to them."""
    os.mkfifo(tmp_path / "pipe")
    paths = {
        "pipe": tmp_path / "pipe",
        "device": Path("/dev/zero"),
        "terminal": Path("/dev/tty"),
        "folder": tmp_path,
    }
    for name, path in dict(paths).items():
        link = tmp_path / f"link to a {name}"
        link.symlink_to(path)
        paths[link.name] = link
    return paths


@pytest.mark.parametrize("read", READERS)
@pytest.mark.timeout(10)
def test_what_is_no_regular_file_is_refused_at_once(
    irregular: dict[str, Path], read: object
) -> None:
    assert len(irregular) == 8
    for path in irregular.values():
        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            read(path)  # type: ignore[operator]


@pytest.mark.timeout(10)
def test_a_pipe_with_a_writer_is_refused_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)  # it would be read, and never end
    try:
        with pytest.raises(OSError, match="not a regular file"):
            open_regular(tmp_path / "pipe")
    finally:
        os.close(writer)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 108 letters
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(OSError, match="not a regular file"):
            open_regular("s")


def test_a_file_that_becomes_a_pipe_between_look_and_open_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr("runtimes.files.regular.check_regular", lambda *given: None)
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / "pipe")


def test_a_link_to_a_file_is_followed_unless_it_may_not_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"content"
    for read in READERS:
        with pytest.raises(OSError, match="a link, not a file: copy what it leads to"):
            read(tmp_path / "link", follow=False)
    with open_regular(tmp_path / "file", follow=False) as file:
        assert file.read() == b"content"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        open_regular(tmp_path / "nothing")
