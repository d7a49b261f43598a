"""Collecting times. No test measures real speed: children report predefined times."""

from __future__ import annotations

import math
import operator
import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtimes.errors import BurnishError
from runtimes.process.process import Child, ChildDied
from runtimes.results import Speed
from runtimes.session import SessionOptions
from runtimes.validator import defaults
from runtimes.validator.host import ArtifactOpener, SessionHost
from runtimes.validator.speed.speed import Comparison, collect


def warmed_up(seconds: float) -> float:
    return 1.0


def steady(time: float) -> Callable[[], Any]:
    """A session that takes `time` seconds in every run, or says so."""
    return partial(
        SimpleNamespace, ready=bool, warm_up=warmed_up, burst=partial(operator.mul, [time])
    )


def dies_when_timed() -> Callable[[], Any]:
    return partial(SimpleNamespace, ready=bool, warm_up=warmed_up, burst=os._exit)


def die(seconds: float) -> None:
    os._exit(3)


def dies_when_warmed_up() -> Callable[[], Any]:
    return partial(SimpleNamespace, ready=bool, warm_up=die)


def measured(
    base: str | None = "eager", **sessions: Callable[[], Any]
) -> dict[str, Speed | BurnishError]:
    with ExitStack() as stack:
        children = {
            name: stack.enter_context(Child(make, what=name)) for name, make in sessions.items()
        }
        collected = collect(children, budget=1.0, base=base)
        return {name: collected.speed(name, base) for name in sessions}


def test_sessions_in_their_processes_are_compared_with_the_base() -> None:
    speeds = measured(eager=steady(0.004), fast=steady(0.001), slow=steady(0.008))
    assert isinstance(speeds["fast"], Speed)
    assert speeds["fast"] == Speed(
        eager_ms=4,
        median_ms=1,
        speedup=4,
        ci95=(4, 4),
        p90_ms=1,
        p99_ms=1,
        rounds=defaults.MIN_ROUNDS,
        stable=True,
        usual=True,
        seconds=speeds["fast"].seconds,
    )
    assert isinstance(speeds["slow"], Speed)
    assert (speeds["slow"].speedup, speeds["slow"].ci95) == (0.5, (0.5, 0.5))
    assert isinstance(speeds["eager"], Speed)
    assert (speeds["eager"].median_ms, speeds["eager"].speedup) == (4, None)


@pytest.mark.parametrize("usual", [True, False])
def test_each_round_waits_for_the_machine_while_patience_lasts(
    monkeypatch: pytest.MonkeyPatch, usual: bool
) -> None:
    patience: list[float] = []

    def wait(seconds: float) -> tuple[bool, float]:
        patience.append(seconds)
        return usual, 8.0

    monkeypatch.setattr("runtimes.validator.speed.speed.Pace", lambda: SimpleNamespace(wait=wait))
    fast = measured(eager=steady(0.004), fast=steady(0.001))["fast"]
    assert isinstance(fast, Speed)
    assert (fast.speedup, fast.stable) == (4, usual)
    assert patience[0] == defaults.PATIENCE_SHARE, "a share of the one second that it may take"
    assert patience[1:] == [0.0] * (len(patience) - 1)


def recorded(name: str, log: Path, time: float) -> Callable[[], Any]:
    """A session that writes its name into a file whenever it is timed."""
    return partial(_Recorded, name, log, time)


class _Recorded:
    def __init__(self, name: str, log: Path, time: float) -> None:
        self._name, self._log, self._time, self._count = name, log, time, 0

    def ready(self) -> bool:
        return True

    def warm_up(self, seconds: float) -> float:
        return 1.0

    def burst(self, runs: int) -> list[float]:
        self._count += 1
        with self._log.open("a", encoding="utf-8") as file:
            file.write(self._name + "\n")
        swing = 1 + 0.3 * math.sin(2.3 * self._count) if self._name == "swinging" else 1.0
        return [self._time * swing]


def test_time_goes_where_a_decision_is_open(tmp_path: Path) -> None:
    log = tmp_path / "bursts"
    makers = {"eager": 4.0, "clear": 0.5, "swinging": 3.9, "parent": 1.0}
    with ExitStack() as stack:
        children = {
            name: stack.enter_context(Child(recorded(name, log, time), what=name))
            for name, time in makers.items()
        }
        comparisons = {
            "clear": [Comparison("eager", 1.0), Comparison("parent", 1.0)],
            "swinging": [Comparison("eager", 1.0)],
        }
        collected = collect(children, budget=0.4, comparisons=comparisons)
    bursts = Counter(log.read_text(encoding="utf-8").split())
    assert bursts["clear"] == bursts["parent"] == defaults.MIN_ROUNDS
    assert bursts["swinging"] == bursts["eager"] > defaults.MIN_ROUNDS
    clear = collected.speed("clear", "eager")
    assert isinstance(clear, Speed)
    assert (clear.speedup, clear.rounds) == (8, defaults.MIN_ROUNDS)


def test_a_decided_gate_does_not_end_a_measurement_whose_interval_is_wide(tmp_path: Path) -> None:
    with ExitStack() as stack:
        children = {
            name: stack.enter_context(Child(recorded(name, tmp_path / "log", time), what=name))
            for name, time in {"eager": 400.0, "swinging": 1.0}.items()
        }
        beside = {"swinging": [Comparison("eager", 1.0)]}
        wanted = collect(children, budget=0.4, comparisons=beside, width=1e-6)
    measured = wanted.speed("swinging", "eager")
    assert isinstance(measured, Speed)
    assert measured.rounds is not None and measured.rounds > defaults.MIN_ROUNDS
    assert measured.stable is False


def test_a_parent_that_ends_leaves_the_comparison_with_eager() -> None:
    with ExitStack() as stack:
        children = {
            name: stack.enter_context(Child(make, what=name))
            for name, make in {
                "eager": steady(0.004),
                "mine": steady(0.001),
                "parent": dies_when_timed(),
            }.items()
        }
        beside = [Comparison("eager", 1.0), Comparison("parent", 1.0)]
        collected = collect(children, budget=0.4, comparisons={"mine": beside})
    measured = collected.speed("mine", "eager")
    assert isinstance(measured, Speed)
    assert measured.speedup == 4
    assert isinstance(collected.speed("mine", "parent"), ChildDied)


def test_without_a_base_there_are_latencies_and_no_ratios() -> None:
    speeds = measured(base=None, only=steady(0.001))
    assert isinstance(speeds["only"], Speed)
    assert (speeds["only"].median_ms, speeds["only"].speedup) == (1, None)


@pytest.mark.parametrize("dying", [dies_when_timed, dies_when_warmed_up])
def test_a_session_that_dies_does_not_stop_the_others(dying: Callable[[], Any]) -> None:
    speeds = measured(eager=steady(0.004), bad=dying(), fast=steady(0.001))
    assert isinstance(speeds["bad"], ChildDied)
    assert isinstance(speeds["fast"], Speed)
    assert speeds["fast"].speedup == 4


@pytest.mark.parametrize("dying", [dies_when_timed, dies_when_warmed_up])
def test_without_a_living_base_there_are_no_ratios(dying: Callable[[], Any]) -> None:
    speeds = measured(eager=dying(), fast=steady(0.001))
    assert isinstance(speeds["eager"], ChildDied)
    assert speeds["fast"] is speeds["eager"], "why there is no ratio"


def test_real_sessions_can_be_measured(small_build: Path) -> None:
    def host(name: str) -> Callable[[], Any]:
        return partial(
            SessionHost, ArtifactOpener(small_build / name, "cpu", SessionOptions(threads=1))
        )

    with (
        Child(host("torchscript"), what="base", torch=True) as base,
        Child(host("onnx"), what="mine") as mine,
    ):
        speed = collect({"base": base, "mine": mine}, budget=0.1, base="base").speed("mine", "base")
    assert isinstance(speed, Speed)
    assert speed.speedup is not None and speed.ci95 is not None and speed.median_ms is not None
    assert speed.rounds is not None and speed.rounds >= 3
    assert 0 < speed.ci95[0] <= speed.speedup <= speed.ci95[1] < math.inf
    assert speed.median_ms > 0
