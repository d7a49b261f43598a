"""Speed: the ratio of two sessions' latencies, from bursts that alternate between their processes.

Other work on the machine only ever adds time, and on two cores it adds much (thread pools wait for
each other). So each round waits until the machine is at its usual speed (`pace.py`), and the ratio
is that of the undisturbed latencies: the fastest run of each burst, and of those the lower quartile
over the rounds. Medians and tails are reported beside it. The interval is a percentile bootstrap
over rounds (Efron 1979). Where a process was placed in memory changes latency by a percent or two
for its life, so `burnish bench` starts each session several times and takes the geometric mean
(Kalibera and Jones 2013). benchmarks/repeatability.py compares this with the naive method.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.errors import BurnishError
from runtimes.process.process import Child
from runtimes.progress import Advance, task
from runtimes.results import Speed
from runtimes.validator import defaults
from runtimes.validator.speed.pace import Pace

Times = list[list[float]]
"""Seconds of each run, one list per round."""

Launches = Sequence[Times]
"""The times of one session that was started several times, each in a new process."""

Values = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Collected:
    """Times by session.

    Attributes:
        times: of each session that is still alive.
        failed: the errors that ended the other sessions.
        usual: whether the machine was at its usual speed.
    """

    times: dict[str, Times]
    failed: dict[str, BurnishError]
    usual: bool

    def speed(self, name: str, base: str | None = None) -> Speed | BurnishError:
        """Return the speed of one session, with the ratio to `base` if that was timed.

        If one of the two sessions failed, return its error.
        """
        if problem := self.failed.get(base or "") or self.failed.get(name):
            return problem
        if name not in self.times:
            return BurnishError(f"the session of {base} ended before this one was timed")
        return summarize([self.times[name]], [self.times.get(base or "", [])], self.usual)


def collect(
    sessions: Mapping[str, Child], budget: float = defaults.BUDGET_SECONDS, base: str | None = None
) -> Collected:
    """Time sessions that each live in a process of their own, one running while the others sleep.

    Args:
        sessions: name to a Child that hosts a `SessionHost`.
        budget: seconds for each session besides `base`.
        base: the session that the others are compared with; without it no ratio has to settle.
    """
    failed: dict[str, BurnishError] = {}
    runs: dict[str, int] = {}  # of one burst
    for name, child in sessions.items():
        answer = _call(child, "warm_up")
        if isinstance(answer, BurnishError):
            failed[name] = answer
        else:
            fitting = math.ceil(defaults.BURST_SECONDS / max(answer, 1e-9))
            runs[name] = max(defaults.MIN_BURST_RUNS, fitting)
    total = budget * max(1, len(runs) - (base in runs))
    with task("seconds", math.ceil(total), limit=True) as advance:
        rounds = _rounds(sessions, runs, failed, total, base, advance)
    alive = {
        name: bursts
        for name, bursts in rounds.times.items()
        if bursts and name not in rounds.failed
    }
    return Collected(alive, rounds.failed, rounds.usual)


def _rounds(
    sessions: Mapping[str, Child],
    runs: Mapping[str, int],
    failed: Mapping[str, BurnishError],
    budget: float,
    base: str | None,
    advance: Advance,
) -> Collected:
    """Run rounds of bursts until all ratios have settled or the budget is spent.

    Args:
        sessions: as for `collect`.
        runs: count of runs in one burst, for each session that warmed up.
        failed: errors of the sessions that did not.
        budget: seconds in total.
        base: as for `collect`.
        advance: takes the seconds that were spent.
    """
    times: dict[str, Times] = {name: [] for name in runs}
    failures = dict(failed)
    shuffle, started, pace = random.Random(0), time.perf_counter(), Pace()
    rounds, unusual, patience, reported = 0, 0, defaults.PATIENCE_SECONDS, 0
    while True:
        active = [name for name in runs if name not in failures]
        if not active or base in failures:
            return Collected(times, failures, not unusual)
        usual, waited = pace.wait(patience)
        unusual += not usual
        patience, started = max(0.0, patience - waited), started + waited
        for name in shuffle.sample(active, len(active)):
            answer = _call(sessions[name], "burst", runs[name])
            if isinstance(answer, BurnishError):
                failures[name] = answer
            else:
                times[name].append(answer)
        rounds += 1
        spent = time.perf_counter() - started > budget
        alive = [name for name in active if name not in failures]
        settled = rounds >= defaults.MIN_ROUNDS and all(
            summarize([times[name]], [times.get(base or "", [])]).stable for name in alive
        )
        if settled or (spent and rounds >= 3):
            return Collected(times, failures, unusual <= rounds * defaults.UNUSUAL_SHARE)
        seconds = int(time.perf_counter() - started)
        advance(
            seconds - reported
        )  # between two rounds, so that nothing is drawn while a burst runs
        reported = seconds


def summarize(launches: Launches, base: Launches = (), usual: bool = True) -> Speed:
    """Return latency percentiles in ms, and with `base`'s times the ratio and its interval.

    Args:
        launches: times of the session.
        base: times of the base session in the same launches.
        usual: the machine was at its usual speed; otherwise no interval counts as stable.
    """
    p50, p90, p99 = (np.percentile(_flat(launches), [50, 90, 99]) * 1e3).tolist()
    rounds = sum(len(times) for times in launches)
    speed = Speed(median_ms=p50, p90_ms=p90, p99_ms=p99, rounds=rounds)
    paired: list[Times] = []
    paired_base: list[Times] = []
    for times, base_times in zip(launches, base, strict=False):
        if base_times and base_times is not times:
            paired.append(times)
            paired_base.append(base_times)
    fastest = [_fastest(times) for times in paired or launches]
    middle, low, high = interval(fastest, [_fastest(times) for times in paired_base] or None)
    narrow = (high - low) / 2 <= defaults.HALF_WIDTH * middle
    stable = usual and rounds >= defaults.MIN_ROUNDS and narrow
    if not paired:
        return speed.model_copy(update={"stable": stable})
    return speed.model_copy(
        update={
            "eager_ms": float(np.median(_flat(paired_base)) * 1e3),
            "speedup": middle,
            "ci95": (low, high),
            "stable": stable,
        }
    )


def _flat(launches: Launches) -> Values:
    return np.concatenate([np.asarray(burst) for times in launches for burst in times])


def _fastest(times: Times) -> Values:
    """Return the fastest run of each burst: the latency if nothing else runs."""
    return np.array([min(burst) for burst in times])


def interval(
    values: Sequence[Values], base: Sequence[Values] | None = None
) -> tuple[float, float, float]:
    """Return the lower quartile of `values` with its 95 % bootstrap interval.

    With `base`, return the ratio of `base`'s quartile to that of `values` instead.

    Args:
        values: per launch one value per round. The geometric mean over launches is taken.
        base: the same, measured beside `values`; rounds that one of the two did not finish do not
            count. Rounds are resampled in pairs, launches as wholes.

    Returns:
        (estimate, low, high).
    """
    rng = np.random.default_rng(0)
    bases: Sequence[Values | None] = base if base is not None else [None] * len(values)
    estimates: list[Values] = []
    resampled: list[Values] = []
    for launch, base_launch in zip(values, bases, strict=True):
        estimate, samples = _launch(launch, base_launch, rng)
        estimates.append(estimate)
        resampled.append(samples)
    count, shape = defaults.BOOTSTRAP_SAMPLES, (defaults.BOOTSTRAP_SAMPLES, len(values))
    launches, columns = rng.integers(0, len(values), shape), rng.integers(0, count, shape)
    means = _geometric_mean(np.stack(resampled)[launches, columns])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(_geometric_mean(np.array(estimates))), float(low), float(high)


def _launch(values: Values, base: Values | None, rng: np.random.Generator) -> tuple[Values, Values]:
    """Return the estimate of one launch, and its estimates with the rounds resampled."""
    count = len(values) if base is None else min(len(values), len(base))
    rounds = rng.integers(0, count, (defaults.BOOTSTRAP_SAMPLES, count))
    samples, estimate = _quartile(values[:count][rounds]), _quartile(values[:count])
    if base is not None:
        samples = _quartile(base[:count][rounds]) / samples
        estimate = _quartile(base[:count]) / estimate
    return estimate, samples


def _geometric_mean(values: Values) -> Values:
    return np.asarray(
        values[..., 0] if values.shape[-1] == 1 else np.exp(np.log(values).mean(axis=-1))
    )


def _quartile(values: Values) -> Values:
    return np.asarray(np.percentile(values, defaults.UNDISTURBED_PERCENTILE, axis=-1))


def _call(child: Child, method: str, *args: Any) -> Any:
    try:
        return child.call(method, *args, timeout=defaults.REQUEST_SECONDS)
    except BurnishError as error:
        return error
