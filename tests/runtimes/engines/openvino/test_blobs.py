"""The cache of compiled models: the least recently used go, never one that is in use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runtimes.engines.openvino import blobs as _blobs
from runtimes.engines.openvino.blobs import prune, use

ROOT = Path(__file__).parents[4]
pytestmark = pytest.mark.skipif(_blobs.fcntl is None, reason="without locks nothing is pruned")


def fill(root: Path, name: str, size: int, used: int) -> Path:
    """A folder of `size` bytes that was last used at second `used`."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "model.blob").write_bytes(b"x" * size)
    os.utime(folder, (used, used))
    return folder


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


@pytest.mark.parametrize(
    ("limit", "left"), [(60, ["a", "b", "c"]), (59, ["a", "c"]), (30, ["a"]), (29, []), (0, [])]
)
def test_the_least_recently_used_go_until_the_rest_fits(
    tmp_path: Path, limit: int, left: list[str]
) -> None:
    for name, size, used in (("a", 30, 300), ("b", 20, 100), ("c", 10, 200)):
        fill(tmp_path, name, size, used)
    prune(tmp_path, limit)
    assert names(tmp_path) == left


def test_using_a_folder_makes_it_the_last_to_go(tmp_path: Path) -> None:
    fill(tmp_path, "old", 10, 100)
    fill(tmp_path, "new", 10, 200)
    folder = use(tmp_path, "old")
    assert folder is not None and folder.path == tmp_path / "old"
    folder.close()
    prune(tmp_path, 10)
    assert names(tmp_path) == ["old"]


def test_a_folder_in_use_stays_until_it_is_closed(tmp_path: Path) -> None:
    fill(tmp_path, "held", 10, 100)
    first, second = use(tmp_path, "held"), use(tmp_path, "held")
    assert first and second
    fill(tmp_path, "other", 10, 2**33)  # used later than now
    prune(tmp_path, 0)
    assert names(tmp_path) == ["held"]
    first.close()
    first.close()
    prune(tmp_path, 0)
    assert names(tmp_path) == ["held"]
    second.close()
    prune(tmp_path, 0)
    assert names(tmp_path) == []


def test_what_is_in_use_in_another_process_stays_until_that_ends(tmp_path: Path) -> None:
    fill(tmp_path, "held", 10, 100)
    code = f"""
from pathlib import Path
from runtimes.engines.openvino.blobs import use
folder = use(Path({str(tmp_path)!r}), "held")
print("held", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        prune(tmp_path, 0)
        assert names(tmp_path) == ["held"]
        process.kill()
    prune(tmp_path, 0)
    assert names(tmp_path) == []


def test_processes_that_use_and_prune_at_once_never_lose_what_they_hold(tmp_path: Path) -> None:
    """Each writes into a folder that all of them use, while the others remove free folders."""
    code = f"""
import os
from pathlib import Path
from runtimes.engines.openvino.blobs import prune, use
root = Path({str(tmp_path)!r})
for turn in range(150):
    folder = use(root, "shared" if turn % 3 else f"own-{{os.getpid()}}")
    mine = folder.path / f"{{os.getpid()}}.blob"
    mine.write_bytes(b"x" * 100)
    prune(root, 0)
    assert mine.stat().st_size == 100
    folder.close()
    prune(root, 0)
"""
    running = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ends = [(process.communicate(timeout=120)[1], process.returncode) for process in running]
    assert ends == [("", 0)] * 3
    prune(tmp_path, 0)
    assert names(tmp_path) == []


def test_a_folder_that_is_removed_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mkdir finds it there, and it is gone before mkdir has looked whether it is a folder."""
    mkdir, removals = Path.mkdir, iter([True, True, False])

    def interrupted(path: Path, *args: Any, **keywords: Any) -> None:
        if next(removals, False):
            raise FileExistsError(path)
        mkdir(path, *args, **keywords)

    monkeypatch.setattr(Path, "mkdir", interrupted)
    folder = use(tmp_path, "shared")
    assert folder is not None and folder.path.is_dir()


def test_a_folder_that_took_the_place_of_the_locked_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between open and lock another process removes the folder, and a third recreates and uses it."""
    fill(tmp_path, "shared", 10, 100)
    lock, held = _blobs.fcntl.flock, []

    def late(descriptor: int, how: int) -> None:
        if how & _blobs.fcntl.LOCK_EX and not held:
            shutil.rmtree(tmp_path / "shared")
            held.append(use(tmp_path, "shared"))
            (tmp_path / "shared" / "model.blob").write_bytes(b"new")
        lock(descriptor, how)

    monkeypatch.setattr(_blobs.fcntl, "flock", late)
    prune(tmp_path, 0)
    assert held[0] is not None and held[0].current()
    assert (tmp_path / "shared" / "model.blob").read_bytes() == b"new"


def test_a_folder_that_cannot_be_made_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert use(tmp_path / "file", "name") is None


def test_a_cache_that_is_not_there_needs_no_pruning(tmp_path: Path) -> None:
    prune(tmp_path / "nothing", 0)
    assert names(tmp_path) == []


def test_a_blob_that_differs_from_what_was_written_is_removed(tmp_path: Path) -> None:
    folder = use(tmp_path, "used")
    assert folder is not None
    intact, damaged = folder.path / "intact.blob", folder.path / "damaged.blob"
    unknown = folder.path / "unknown.blob"
    for blob in (intact, damaged):
        blob.write_bytes(b"compiled")
    folder.keep_digests()
    damaged.write_bytes(b"compileD")
    unknown.write_bytes(b"compiled")
    folder.remove_damaged()
    assert [path.exists() for path in (intact, damaged, unknown)] == [True, False, False]
    damaged.write_bytes(b"compiled again")
    folder.keep_digests()
    folder.remove_damaged()
    assert damaged.exists()
    folder.close()
