"""The cache of steps is never wrong, and never in the way."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.steps.cache import StepCache
from converters.steps.dependencies import current_digests
from converters.steps.entry import DIGESTS, FILES, RESULT, STEP, Entry, seal
from runtimes.errors import BurnishError

READ = {"file data.txt": "0"}


@pytest.fixture
def cache(tmp_path: Path) -> StepCache:
    (tmp_path / "data.txt").write_text("1", encoding="utf-8")
    return StepCache(tmp_path / "cache", tmp_path)


def read_of(cache: StepCache) -> dict[str, str]:
    return current_digests(["file data.txt"], cache.home)


def put(cache: StepCache, first: str = "key", text: str = "made") -> Entry:
    folder = cache.scratch()
    (folder / FILES).mkdir()
    (folder / FILES / "out.bin").write_text(text, encoding="utf-8")
    (folder / RESULT).write_text('{"n": 1}', encoding="utf-8")
    (folder / STEP).write_text('{"step": "it", "recipe": "r"}', encoding="utf-8")
    seal(folder)
    return cache.put(first, read_of(cache), folder)


def another(cache: StepCache) -> StepCache:
    """As another build sees it."""
    return StepCache(cache.folder, cache.home, cache.limit)


def test_a_cached_entry_is_found(cache: StepCache) -> None:
    new = put(cache)
    entry, _ = another(cache).find("key")
    assert entry == new
    assert entry.result() == '{"n": 1}'
    assert (entry.files / "out.bin").read_text(encoding="utf-8") == "made"
    assert another(cache).find("another key")[0] is None


def test_an_entry_is_found_whenever_its_build_is_killed(
    cache: StepCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Path) -> None:
        raise KeyboardInterrupt(folder)

    with monkeypatch.context() as patched:
        patched.setattr("converters.steps.cache.flush", killed)  # just after it got its name
        with pytest.raises(KeyboardInterrupt):
            put(cache)
    assert another(cache).entries(), "it has its name"
    assert another(cache).find("key")[0] is not None


def test_a_file_that_changed_finds_nothing_until_it_is_what_it_was(cache: StepCache) -> None:
    first = put(cache)
    (cache.home / "data.txt").write_text("2", encoding="utf-8")
    entry, now = another(cache).find("key")
    assert entry is None
    assert now == read_of(cache)
    second = put(another(cache), text="made of 2")
    assert another(cache).find("key")[0] == second
    (cache.home / "data.txt").write_text("1", encoding="utf-8")
    assert another(cache).find("key")[0] == first, "both states are cached"


def damage_content(entry: Entry) -> None:
    (entry.files / "out.bin").write_text("male", encoding="utf-8")


def truncate(entry: Entry) -> None:
    os.truncate(entry.files / "out.bin", 1)


def remove_a_file(entry: Entry) -> None:
    (entry.files / "out.bin").unlink()


def add_a_file(entry: Entry) -> None:
    (entry.files / "more").touch()


def damage_the_result(entry: Entry) -> None:
    (entry.folder / RESULT).write_text('{"n": 2}', encoding="utf-8")


def damage_the_digests(entry: Entry) -> None:
    (entry.folder / DIGESTS).write_text("{", encoding="utf-8")


def remove_the_digests(entry: Entry) -> None:
    (entry.folder / DIGESTS).unlink()


FAULTS = [
    damage_content,
    truncate,
    remove_a_file,
    add_a_file,
    damage_the_result,
    damage_the_digests,
    remove_the_digests,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_damaged_entry_is_reported_and_removed(
    cache: StepCache, fault: Callable[[Entry], None]
) -> None:
    fault(put(cache))
    warnings: list[str] = []
    mine = another(cache)
    entry, _ = mine.find("key", warnings.append)
    assert entry is None or not mine.check(entry, warnings.append)
    assert len(warnings) == 1 and "was damaged: its step runs again" in warnings[0]
    assert another(cache).find("key")[0] is None
    assert another(cache).check(put(another(cache)), warnings.append), "a new entry takes its place"


def test_a_damaged_index_finds_nothing(cache: StepCache) -> None:
    put(cache)
    for text in ("", "{", "[1]", '{"a": 1}'):
        (cache.folder / "index" / "key").write_text(text, encoding="utf-8")
        assert another(cache).find("key")[0] is None


@given(st.binary(max_size=60))
def test_no_bytes_in_the_index_do_harm(junk: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        cache = StepCache(Path(folder) / "cache", Path(folder))
        (cache.folder / "index").mkdir(parents=True)
        (cache.folder / "index" / "key").write_bytes(junk)
        assert cache.find("key")[0] is None


def test_the_least_recently_used_entry_is_removed_first(cache: StepCache) -> None:
    entries = [put(cache, name, "x" * 1000) for name in ("one", "two", "three")]
    cache.release()
    for age, entry in zip((30, 10, 20), entries, strict=True):
        os.utime(entry.folder, (1e9 - age, 1e9 - age))
    sizes = [info.size for info in cache.entries()]
    assert cache.trim(sum(sizes) - 1) == sizes[0]
    remaining = [another(cache).find(name)[0] is not None for name in ("one", "two", "three")]
    assert remaining == [False, True, True]


def test_an_entry_in_use_is_not_removed(cache: StepCache) -> None:
    put(cache)
    cache.release()
    user = another(cache)
    assert user.find("key")[0] is not None
    assert another(cache).trim(0) == 0
    user.release()
    assert another(cache).trim(0) > 0
    assert another(cache).find("key")[0] is None


def test_one_build_waits_for_the_other(cache: StepCache) -> None:
    order, inside, waited = [], threading.Event(), threading.Event()

    def make_second() -> None:
        with another(cache).making("key", lambda: False, waited.set):
            order.append("second")

    with cache.making("key", inside.is_set, lambda: None):
        thread = threading.Thread(target=make_second)
        thread.start()
        assert waited.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_waiting_build_can_be_interrupted(cache: StepCache) -> None:
    with (
        cache.making("key", lambda: False, lambda: None),
        pytest.raises(BurnishError, match="interrupted"),
        another(cache).making("key", lambda: True, lambda: None),
    ):
        raise AssertionError("it did not wait")


def test_different_steps_do_not_wait(cache: StepCache) -> None:
    second = another(cache).making("b", lambda: True, lambda: None)
    with cache.making("a", lambda: True, lambda: None), second:
        pass


def test_the_second_of_two_equal_results_is_removed(cache: StepCache) -> None:
    first = put(cache)
    assert put(another(cache)) == first
    assert not list((cache.folder / "new").iterdir())
    assert len(cache.entries()) == 1


def test_a_new_entry_replaces_the_cached_one(cache: StepCache) -> None:
    """Otherwise `--fresh` would throw its result away, and return the old one."""
    put(cache, text="before")
    cache.release()
    entry = put(another(cache), text="after")
    assert (entry.files / "out.bin").read_text(encoding="utf-8") == "after"
    assert another(cache).find("key")[0] == entry


def test_a_damaged_entry_is_not_reused_by_another_build(cache: StepCache) -> None:
    damage_content(put(cache))
    cache.release()
    assert put(another(cache)).is_intact()


def test_an_entry_in_use_stays_and_the_new_result_serves_this_build_only(cache: StepCache) -> None:
    used = put(cache, text="before")
    mine = put(another(cache), text="after")
    assert mine.folder.parent.name == "new" and mine.is_intact()
    assert (used.files / "out.bin").read_text(encoding="utf-8") == "before"
    assert another(cache).find("key")[0] == used


@pytest.mark.parametrize("text", [None, "", "[]", "{"])
def test_an_entry_without_a_description_takes_room_all_the_same(
    cache: StepCache, text: str | None
) -> None:
    described = put(cache).folder / STEP
    described.unlink() if text is None else described.write_text(text, encoding="utf-8")
    cache.release()
    assert [info.description for info in cache.entries()] == [{}]
    assert cache.trim(0) > 0
    assert cache.entries() == []
