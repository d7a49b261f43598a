"""Whether the machine is at its usual speed; one test runs the workload on the real machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest

from runtimes.validator.speed.pace import Cores, Pace


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def takes(*seconds: float, then: float, transfer: float = 1.0) -> Callable[[], dict[str, float]]:
    times: Iterator[float] = chain(seconds, repeat(then))
    return lambda: {"compute": next(times), "transfer": transfer}


def test_the_first_machine_is_the_usual_one() -> None:
    assert Pace(takes(then=1.0)).usual()


def test_half_as_slow_again_is_not_usual() -> None:
    pace = Pace(takes(1.0, then=1.5))
    assert pace.usual()
    assert not pace.usual()
    assert not Pace(takes(then=1.5)).usual(), "the best is remembered from one run to the next"


def test_a_little_slower_is_usual() -> None:
    assert Pace(takes(then=1.0)).usual()
    assert Pace(takes(then=1.05)).usual()


def test_cores_that_lie_on_two_chips_are_not_usual() -> None:
    assert Pace(takes(then=1.0)).usual()
    assert not Pace(takes(then=1.0, transfer=2.5)).usual()


def test_one_quick_try_among_slow_ones_is_enough() -> None:
    assert Pace(takes(then=1.0)).usual()
    assert Pace(takes(2.0, 2.0, 2.0, then=1.0)).usual()


def test_waiting_ends_when_the_machine_is_back_or_patience_is_at_its_end() -> None:
    assert Pace(takes(then=1.0)).wait(60.0)[0]
    slow = Pace(takes(*[2.0] * 100, then=1.0))
    assert slow.wait(3600.0)[0]
    assert not Pace(takes(then=2.0)).wait(0.0)[0]


def test_without_a_cache_folder_each_run_learns_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert Pace(takes(then=2.0)).usual()
    assert Pace(takes(then=4.0)).usual()


def test_the_real_work_takes_some_time() -> None:
    assert all(0 < seconds < 60 for seconds in Cores().run_workload().values())
    assert Pace().usual()
