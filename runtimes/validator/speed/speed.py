"""Collect times: bursts that alternate between sessions, each in a process of its own.

Other work on the machine only ever adds time, and on two cores it adds much (thread pools wait for
each other). So each round waits until the machine is at its usual speed (`pace.py`). Time goes
where a decision is open: a session whose gates are decided, and whose interval is narrow, is not
timed any further. `ratio.py` turns times into ratios.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtimes.errors import BurnishError
from runtimes.process.process import Child, stopwatch
from runtimes.progress import Advance, task
from runtimes.results import Speed
from runtimes.validator import defaults
from runtimes.validator.gates.speed import decide
from runtimes.validator.speed.pace import Pace
from runtimes.validator.speed.ratio import Earlier, Times, summarize

_FEWEST_ROUNDS = 3  # run even beyond the budget: fewer have no interval


@dataclass(frozen=True)
class Comparison:
    """A session that another is compared with.

    Attributes:
        base: its name.
        required: the ratio that a gate requires, if one does.
        earlier: measurements of both that left the gate undecided; they count as further launches.
    """

    base: str
    required: float | None = None
    earlier: Earlier = ()


Comparisons = Mapping[str, Sequence[Comparison]]
"""Sessions to measure, each with those that it is compared with."""


@dataclass(frozen=True)
class Collected:
    """Times by session.

    Attributes:
        times: of each session that is still alive.
        failed: the errors that ended the other sessions.
        usual: whether the machine was at its usual speed.
        seconds: spent for each session when its measurement ended.
        width: the wanted half width of intervals, as a share of the ratio.
    """

    times: dict[str, Times]
    failed: dict[str, BurnishError]
    usual: bool
    seconds: dict[str, float] = field(default_factory=dict)
    width: float = defaults.HALF_WIDTH

    def speed(
        self, name: str, base: str | None = None, earlier: Earlier = ()
    ) -> Speed | BurnishError:
        """Return the speed of one session, with the ratio to `base` if that was timed.

        If one of the two sessions failed, return its error.
        """
        if problem := self.failed.get(base or "") or self.failed.get(name):
            return problem
        if name not in self.times:
            return BurnishError(f"the session of {base} ended before this one was timed")
        base_times = [self.times.get(base or "", [])]
        speed = summarize([self.times[name]], base_times, self.usual, self.width, earlier)
        return speed.model_copy(update={"seconds": self.seconds.get(name)})


def collect(
    sessions: Mapping[str, Child],
    budget: float = defaults.BUDGET_SECONDS,
    base: str | None = None,
    *,
    comparisons: Comparisons | None = None,
    width: float = defaults.HALF_WIDTH,
) -> Collected:
    """Time sessions that each live in a process of their own, one running while the others sleep.

    Args:
        sessions: name to a Child that hosts a `SessionHost`.
        budget: seconds for each measured session once all are loaded, with warm-up and waiting for
            the machine.
        base: the session that all others are compared with, if `comparisons` are not given.
        comparisons: the sessions to measure. Each is timed until its gates are decided and its
            intervals narrow; others are timed as long as one of these is compared with them.
        width: half width that an interval should have, as a share of the ratio.
    """
    if comparisons is None:
        beside = [Comparison(base)] if base is not None else []
        comparisons = {name: beside for name in sessions if name != base}
    total = budget * max(1, len(comparisons))
    failed: dict[str, BurnishError] = {}
    _call_all(sessions, failed, "ready")  # loading a session is no part of the measurement
    clock = stopwatch()
    limit = min(defaults.WARM_UP_SECONDS, total * defaults.WARM_UP_SHARE / len(sessions))
    runs: dict[str, int] = {}
    for name, fastest in _call_all(sessions, failed, "warm_up", limit).items():
        fitting = math.ceil(defaults.BURST_SECONDS / max(fastest, 1e-9))
        runs[name] = max(defaults.MIN_BURST_RUNS, fitting)
    with task("seconds", math.ceil(total), limit=True) as advance:
        rounds = _Rounds(sessions, comparisons, runs, failed, width)
        rounds.run(clock, total, advance)
    alive = {name: bursts for name, bursts in rounds.times.items() if bursts and name not in failed}
    return Collected(alive, failed, rounds.usual, rounds.seconds, width)


def _call_all(
    sessions: Mapping[str, Child], failed: dict[str, BurnishError], method: str, *args: Any
) -> dict[str, Any]:
    """Return the answers of all sessions that have not ended; `failed` gets further errors."""
    answers: dict[str, Any] = {}
    for name, child in sessions.items():
        if name in failed:
            continue
        answer = _call(child, method, *args)
        if isinstance(answer, BurnishError):
            failed[name] = answer
        else:
            answers[name] = answer
    return answers


class _Rounds:
    """Rounds of bursts, until every measurement has ended or the budget is spent."""

    def __init__(
        self,
        sessions: Mapping[str, Child],
        comparisons: Comparisons,
        runs: Mapping[str, int],
        failed: dict[str, BurnishError],
        width: float,
    ) -> None:
        """`runs`: of one burst, for each session that warmed up; `failed` gets further errors."""
        self._sessions, self._comparisons = sessions, comparisons
        self._runs, self._failed, self._width = runs, failed, width
        self.times: dict[str, Times] = {name: [] for name in runs}
        self.seconds: dict[str, float] = {}
        self._rounds = self._unusual = 0

    @property
    def usual(self) -> bool:
        """Whether enough rounds ran on a machine at its usual speed."""
        return self._unusual <= self._rounds * defaults.UNUSUAL_SHARE

    def run(self, clock: Callable[[], float], total: float, advance: Advance) -> None:
        """Run rounds until `clock` shows `total` seconds; `advance` takes the seconds spent."""
        shuffle, pace, reported = random.Random(0), Pace(), 0
        patience = min(defaults.PATIENCE_SECONDS, total * defaults.PATIENCE_SHARE)
        while measuring := [name for name in self._comparisons if self._is_open(name)]:
            usual, waited = pace.wait(patience)
            patience = max(0.0, patience - waited)
            self._unusual += not usual
            active = self._needed_by(measuring)
            for name in shuffle.sample(active, len(active)):
                self._burst(name)
            self._rounds += 1
            spent = clock()
            share = spent / len(self._comparisons)
            for name in measuring:
                self.seconds[name] = share
            if spent > total and self._rounds >= _FEWEST_ROUNDS:
                return
            # between two rounds, so that nothing is drawn while a burst runs
            advance(int(spent) - reported)
            reported = int(spent)

    def _needed_by(self, measuring: Sequence[str]) -> list[str]:
        """Return these sessions and those that they are compared with, in a lasting order."""
        needed = set(measuring)
        for name in measuring:
            needed |= {comparison.base for comparison in self._alive(name)}
        return [name for name in self._runs if name in needed]

    def _alive(self, name: str) -> list[Comparison]:
        """Return the comparisons of a session with sessions that have not ended."""
        return [
            comparison
            for comparison in self._comparisons[name]
            if comparison.base in self._runs and comparison.base not in self._failed
        ]

    def _burst(self, name: str) -> None:
        answer = _call(self._sessions[name], "burst", self._runs[name])
        if isinstance(answer, BurnishError):
            self._failed[name] = answer
        else:
            self.times[name].append(answer)

    def _is_open(self, name: str) -> bool:
        """Return whether a session's measurement has to go on."""
        if name in self._failed:
            return False
        if len(self.times[name]) < defaults.MIN_ROUNDS:
            return True
        beside: Sequence[Comparison | None] = self._alive(name) or [None]
        return not all(self._is_settled(name, comparison) for comparison in beside)

    def _is_settled(self, name: str, comparison: Comparison | None) -> bool:
        """Return whether an interval is narrow, and decides the gate on it."""
        beside = [self.times[comparison.base]] if comparison else []
        earlier = comparison.earlier if comparison else ()
        measured = summarize([self.times[name]], beside, width=self._width, earlier=earlier)
        required = comparison.required if comparison else None
        if required is None or measured.ci95 is None:
            return bool(measured.stable)
        return bool(measured.stable) and decide(measured.ci95, required, self.usual) is not None


def _call(child: Child, method: str, *args: Any) -> Any:
    try:
        return child.call(method, *args, timeout=defaults.REQUEST_SECONDS)
    except BurnishError as error:
        return error
