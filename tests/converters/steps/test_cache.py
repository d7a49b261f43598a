"""The cache of steps is never wrong, and never in the way."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.steps.cache import DIGESTS, FILES, RESULT, STEP, Entry, StepCache, seal
from runtimes.errors import BurnishError

READ = {"file data.txt": "0"}


@pytest.fixture
def cache(tmp_path: Path) -> StepCache:
    (tmp_path / "data.txt").write_text("1", encoding="utf-8")
    return StepCache(tmp_path / "cache", tmp_path)


def read_of(cache: StepCache) -> dict[str, str]:
    from converters.steps.trace import current

    return current(["file data.txt"], cache.home)


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


def test_what_was_kept_is_found(cache: StepCache) -> None:
    made = put(cache)
    found, _ = another(cache).find("key")
    assert found == made
    assert found.result() == '{"n": 1}'
    assert (found.files / "out.bin").read_text(encoding="utf-8") == "made"
    assert another(cache).find("another key")[0] is None


def test_a_file_that_changed_finds_nothing_until_it_is_what_it_was(cache: StepCache) -> None:
    made = put(cache)
    (cache.home / "data.txt").write_text("2", encoding="utf-8")
    found, now = another(cache).find("key")
    assert found is None
    assert now == read_of(cache)
    second = put(another(cache), text="made of 2")
    assert another(cache).find("key")[0] == second
    (cache.home / "data.txt").write_text("1", encoding="utf-8")
    assert another(cache).find("key")[0] == made, "both states are kept"


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


FAULTS = [damage_content, truncate, remove_a_file, add_a_file, damage_the_result, damage_the_digests,
          remove_the_digests]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_what_is_damaged_is_noticed_told_and_removed(cache: StepCache, fault: Callable[[Entry], None]) -> None:
    fault(put(cache))
    told: list[str] = []
    mine = another(cache)
    found, _ = mine.find("key", told.append)
    assert found is None or not mine.check(found, told.append)
    assert len(told) == 1 and "was damaged: it is made anew" in told[0]
    assert another(cache).find("key")[0] is None
    assert another(cache).check(put(another(cache)), told.append), "there is place for a new one"


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


def test_what_was_not_used_for_longest_goes_first(cache: StepCache) -> None:
    entries = [put(cache, name, "x" * 1000) for name in ("one", "two", "three")]
    cache.release()
    for age, entry in zip((30, 10, 20), entries, strict=True):
        os.utime(entry.folder, (1e9 - age, 1e9 - age))
    sizes = [size for _, _, size, _ in cache.entries()]
    assert cache.trim(sum(sizes) - 1) == sizes[0]
    left = [another(cache).find(name)[0] is not None for name in ("one", "two", "three")]
    assert left == [False, True, True]


def test_what_a_build_uses_is_not_removed(cache: StepCache) -> None:
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

    def other() -> None:
        with another(cache).making("key", lambda: False, waited.set):
            order.append("other")

    with cache.making("key", inside.is_set, lambda: None):
        thread = threading.Thread(target=other)
        thread.start()
        assert waited.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "other"]


def test_who_waits_can_be_interrupted(cache: StepCache) -> None:
    with (
        cache.making("key", lambda: False, lambda: None),
        pytest.raises(BurnishError, match="interrupted"),
        another(cache).making("key", lambda: True, lambda: None),
    ):
        raise AssertionError("it did not wait")


def test_different_steps_do_not_wait(cache: StepCache) -> None:
    with cache.making("one", lambda: True, lambda: None), another(cache).making("two", lambda: True, lambda: None):
        pass


def test_the_second_of_two_equal_results_is_taken_away(cache: StepCache) -> None:
    first = put(cache)
    assert put(another(cache)) == first
    assert not list((cache.folder / "new").iterdir())
    assert len(cache.entries()) == 1


def test_what_is_made_anew_takes_the_place_of_what_was_kept(cache: StepCache) -> None:
    """Else `--fresh` would throw away what it has made, and give back what was there."""
    put(cache, text="before")
    cache.release()
    made = put(another(cache), text="after")
    assert (made.files / "out.bin").read_text(encoding="utf-8") == "after"
    assert another(cache).find("key")[0] == made


def test_what_was_damaged_is_no_other_builds_result(cache: StepCache) -> None:
    damage_content(put(cache))
    cache.release()
    assert put(another(cache)).is_whole()


def test_what_another_build_uses_stays_and_the_new_result_serves_this_one_alone(cache: StepCache) -> None:
    used = put(cache, text="before")
    mine = put(another(cache), text="after")
    assert mine.folder.parent.name == "new" and mine.is_whole()
    assert (used.files / "out.bin").read_text(encoding="utf-8") == "before"
    assert another(cache).find("key")[0] == used


@pytest.mark.parametrize("text", [None, "", "[]", "{"])
def test_an_entry_without_a_description_takes_room_all_the_same(cache: StepCache, text: str | None) -> None:
    described = put(cache).folder / STEP
    described.unlink() if text is None else described.write_text(text, encoding="utf-8")
    cache.release()
    assert [step for _, step, _, _ in cache.entries()] == [{}]
    assert cache.trim(0) > 0
    assert cache.entries() == []
