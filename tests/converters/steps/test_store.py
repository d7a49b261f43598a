"""The store returns intact entries or nothing, never fails, and never grows beyond its limit."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.digest import Key
from converters.steps.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "caches" / "things")


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a folder with a file of that content, and one in a folder within."""

    def make(content: str) -> Path:
        path = tmp_path / f"made-{content[:8]}"
        (path / "inner").mkdir(parents=True)
        (path / "graph").write_text(content, encoding="utf-8")
        (path / "inner" / "more").write_text("more", encoding="utf-8")
        return path

    return make


Folder = Callable[[str], Path]


def files(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()
    }


def get(store: Store, key: str, target: Path) -> tuple[dict[str, str] | None, list[str]]:
    """Return the files that the store has under a key, and its warnings; the target is removed."""
    warnings: list[str] = []
    entry = files(target) if store.get(key, target, warnings.append) else None
    assert (entry is None) == (not target.exists()), "a damaged entry is not copied"
    shutil.rmtree(target, ignore_errors=True)
    return entry, warnings


def test_a_stored_folder_comes_back(store: Store, folder: Folder, tmp_path: Path) -> None:
    assert get(store, "a", tmp_path / "t") == (None, [])
    store.put("a", folder("one"))
    store.put("b", folder("two"))
    assert get(store, "a", tmp_path / "t") == ({"graph": "one", "inner/more": "more"}, [])
    assert get(store, "b", tmp_path / "t") == ({"graph": "two", "inner/more": "more"}, [])
    assert sorted(path.name for path in store.folder.iterdir()) == ["a", "b"], "no scratch stays"


def flip(entry: Path) -> None:
    content = bytearray((entry / "graph").read_bytes())
    content[0] ^= 1
    (entry / "graph").write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a bit": flip,
    "cut short": lambda entry: (entry / "graph").write_bytes(b"o"),
    "a file is gone": lambda entry: (entry / "graph").unlink(),
    "a file too many": lambda entry: (entry / "stray").touch(),
    "no digests": lambda entry: (entry / "digests.json").unlink(),
    "half the digests": lambda entry: (entry / "digests.json").write_text('{"graph": "'),
    "no JSON": lambda entry: (entry / "digests.json").write_bytes(b"\xff\xfe"),
    "other JSON": lambda entry: (entry / "digests.json").write_text("[1]"),
    "empty": lambda entry: [shutil.rmtree(entry), entry.mkdir()],
    "a file in its place": lambda entry: [shutil.rmtree(entry), entry.touch()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_reported_removed_and_can_be_stored_again(
    store: Store, folder: Folder, tmp_path: Path, damage: str
) -> None:
    source = folder("one")
    store.put("a", source)
    DAMAGES[damage](store.folder / "a")
    entry, warnings = get(store, "a", tmp_path / "t")
    assert entry is None
    assert warnings == ["cache entry things/a was damaged: it was computed again"]
    assert list(store.folder.iterdir()) == []
    store.put("a", source)
    assert get(store, "a", tmp_path / "t") == (files(source), [])


def test_the_first_one_to_put_a_key_wins(store: Store, folder: Folder, tmp_path: Path) -> None:
    store.put("a", folder("one"))
    store.put("a", folder("two"))
    entry, warnings = get(store, "a", tmp_path / "t")
    assert entry is not None and (entry["graph"], warnings) == ("one", [])
    assert [path.name for path in store.folder.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["file", "file/deeper"])
def test_a_store_whose_folder_cannot_be_created_stores_nothing(
    folder: Folder, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()
    store = Store(tmp_path / name)
    store.put("a", folder("one"))
    assert get(store, "a", tmp_path / "t") == (None, [])
    assert (tmp_path / "file").is_file()


@pytest.mark.parametrize("step", ["os.fsync", "shutil.copytree", "pathlib.Path.rename"])
def test_a_disk_that_fills_up_leaves_nothing(
    store: Store, folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*args: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    source = folder("one")
    with monkeypatch.context() as patch:
        patch.setattr(step, full)
        store.put("a", source)
    assert list(store.folder.iterdir()) == []
    assert get(store, "a", tmp_path / "t") == (None, [])


def test_a_process_that_is_killed_while_it_puts_leaves_no_half_entry(
    store: Store, folder: Folder, tmp_path: Path
) -> None:
    source = folder("one")
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_die_before_the_rename, args=(store, source))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert get(store, "a", tmp_path / "t") == (None, [])
    [abandoned] = store.folder.iterdir()
    store.put("a", source)
    assert abandoned.exists(), "another process may still write it"
    os.utime(abandoned, (time.time() - 2 * 86400,) * 2)
    store.put("b", source)
    assert sorted(path.name for path in store.folder.iterdir()) == ["a", "b"]


def _die_before_the_rename(store: Store, source: Path) -> None:
    Path.rename = lambda *args: os._exit(9)  # type: ignore[method-assign, assignment]
    store.put("a", source)


def _put_and_get(
    store: Store, source: Path, target: Path, wrong: multiprocessing.SimpleQueue[str]
) -> None:
    for round_ in range(40):
        store.put("a", source)
        warnings: list[str] = []
        if store.get("a", target, warnings.append):
            if files(target) != files(source):
                wrong.put(f"round {round_}: {files(target)}")
            shutil.rmtree(target)
        if warnings:
            wrong.put(f"round {round_}: {warnings}")
        if round_ % 8 == 7:
            Store(store.folder, limit=0).put("b", source)  # which removes all


def test_processes_at_the_same_entry_never_see_a_half_one(
    store: Store, folder: Folder, tmp_path: Path
) -> None:
    """Even while it is removed under them, as when the store is trimmed: that is no damage."""
    source = folder("one" * 10_000)
    context = multiprocessing.get_context("fork")
    wrong: multiprocessing.SimpleQueue[str] = context.SimpleQueue()
    workers = [
        context.Process(target=_put_and_get, args=(store, source, tmp_path / f"t{number}", wrong))
        for number in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert wrong.empty() or wrong.get() == ""


def test_the_least_recently_used_entry_is_removed_first(
    store: Store, folder: Folder, tmp_path: Path
) -> None:
    sources = {key: folder(key * 1000) for key in "abcd"}
    for key in "abc":
        store.put(key, sources[key])
    for age, key in enumerate("cba"):
        os.utime(store.folder / key, (time.time() - 100 * (age + 1),) * 2)
    assert get(store, "a", tmp_path / "t")[0] is not None, "which makes it the newest"
    small = Store(store.folder, limit=4000)
    small.put("d", sources["d"])
    assert sorted(path.name for path in store.folder.iterdir()) == ["a", "c", "d"]


def test_a_folder_larger_than_the_limit_is_not_stored_and_removes_nothing(
    store: Store, folder: Folder
) -> None:
    store.put("a", folder("one"))
    Store(store.folder, limit=500).put("b", folder("two" * 1000))
    assert [path.name for path in store.folder.iterdir()] == ["a"]


def test_digests_are_listed_for_every_file(store: Store, folder: Folder) -> None:
    store.put("a", folder("one"))
    listed = json.loads((store.folder / "a" / "digests.json").read_text(encoding="utf-8"))
    assert set(listed) == {"graph", "inner/more"}
    assert {len(digest) for digest in listed.values()} == {64}


parts = st.lists(st.tuples(st.text(max_size=4), st.binary(max_size=4)), max_size=4)


def key_of(named_parts: list[tuple[str, bytes]]) -> str:
    key = Key()
    for name, part in named_parts:
        key.add(name, part)
    return key.hex()


@given(parts, parts)
def test_two_lists_of_parts_have_the_same_key_only_if_they_are_equal(
    first: list[tuple[str, bytes]], second: list[tuple[str, bytes]]
) -> None:
    assert (key_of(first) == key_of(second)) == (first == second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([("a", b"bc")], [("ab", b"c")]),
        ([("a", b"b"), ("c", b"d")], [("a", b"bcd")]),
        ([("a", b""), ("", b"b")], [("a", b"b")]),
        ([("a", b"1 b 1 x")], [("a", b""), ("b", b"x")]),
        ([("a", b"xb y")], [("a", b"x"), ("b", b"y")]),
        ([("a", b"xby")], [("a", b"x"), ("b", b"y")]),
    ],
)
def test_the_end_of_a_part_counts(
    first: list[tuple[str, bytes]], second: list[tuple[str, bytes]]
) -> None:
    assert key_of(first) != key_of(second)
