"""Speed: the ratio of two sessions' latencies, from bursts that alternate between their processes.

Other work on the machine only ever adds time, and on two cores it adds much (thread pools wait for each
other). So each round waits until the machine is at its usual speed (`pace.py`), and the ratio is of what each
session takes undisturbed: the fastest run of each burst, and of those the lower quartile over the rounds.
Medians and tails are reported beside it. The interval is a percentile bootstrap over rounds (Efron 1979). Where
a process was placed in memory is worth a percent or two and stays for its life, so `burnish bench` starts each
session several times and takes the geometric mean (Kalibera and Jones 2013). benchmarks/repeatability.py
compares this with the naive way.
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
    """Times by session; errors of those that ended; whether the machine was at its usual speed."""

    times: dict[str, Times]
    failed: dict[str, BurnishError]
    usual: bool

    def speed(self, name: str, base: str | None = None) -> Speed | BurnishError:
        """Of one session, with the ratio to `base` where that was timed; or the error that ended one of the two."""
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
    runs: dict[str, int] = {}
    for name, child in sessions.items():
        answer = _call(child, "warm_up")
        if isinstance(answer, BurnishError):
            failed[name] = answer
        else:
            runs[name] = max(defaults.MIN_BURST_RUNS, math.ceil(defaults.BURST_SECONDS / max(answer, 1e-9)))
    whole = budget * max(1, len(runs) - (base in runs))
    with task("seconds", math.ceil(whole), limit=True) as advance:
        times, usual = _rounds(sessions, runs, failed, whole, base, advance)
    return Collected({name: mine for name, mine in times.items() if mine and name not in failed}, failed, usual)


def _rounds(
    sessions: Mapping[str, Child],
    runs: dict[str, int],
    failed: dict[str, BurnishError],
    budget: float,
    base: str | None,
    advance: Advance,
) -> tuple[dict[str, Times], bool]:
    times: dict[str, Times] = {name: [] for name in runs}
    shuffle, started, pace = random.Random(0), time.perf_counter(), Pace()
    rounds, unusual, patience, told = 0, 0, defaults.PATIENCE_SECONDS, 0
    while True:
        active = [name for name in runs if name not in failed]
        if not active or (base in failed):
            return times, not unusual
        usual, waited = pace.wait(patience)
        unusual += not usual
        patience, started = max(0.0, patience - waited), started + waited
        for name in shuffle.sample(active, len(active)):
            answer = _call(sessions[name], "burst", runs[name])
            if isinstance(answer, BurnishError):
                failed[name] = answer
            else:
                times[name].append(answer)
        rounds += 1
        spent = time.perf_counter() - started > budget
        settled = rounds >= defaults.MIN_ROUNDS and all(
            summarize([times[name]], [times.get(base or "", [])]).stable for name in active if name not in failed
        )
        if settled or (spent and rounds >= 3):
            return times, unusual <= rounds * defaults.UNUSUAL_SHARE
        seconds = int(time.perf_counter() - started)
        advance(seconds - told)  # between two rounds, so that nothing is drawn while a burst runs
        told = seconds


def summarize(launches: Launches, base: Launches = (), usual: bool = True) -> Speed:
    """Latency percentiles in ms, and with `base`'s times of the same launches the ratio and its interval.

    Where the machine was not at its `usual` speed, no interval is narrow enough to be stable.
    """
    p50, p90, p99 = (float(value) for value in np.percentile(_flat(launches), [50, 90, 99]) * 1e3)
    rounds = sum(len(times) for times in launches)
    speed = Speed(median_ms=p50, p90_ms=p90, p99_ms=p99, rounds=rounds)
    pairs = [(mine, theirs) for mine, theirs in zip(launches, base, strict=False) if theirs and theirs is not mine]
    mine = [_fastest(one) for one, _ in pairs] or [_fastest(one) for one in launches]
    middle, low, high = interval(mine, [_fastest(one) for _, one in pairs] or None)
    stable = usual and rounds >= defaults.MIN_ROUNDS and (high - low) / 2 <= defaults.HALF_WIDTH * middle
    if not pairs:
        return speed.model_copy(update={"stable": stable})
    return speed.model_copy(
        update={
            "eager_ms": float(np.median(_flat([one for _, one in pairs])) * 1e3),
            "speedup": middle,
            "ci95": (low, high),
            "stable": stable,
        }
    )


def _flat(launches: Launches) -> Values:
    return np.concatenate([np.asarray(burst) for times in launches for burst in times])


def _fastest(times: Times) -> Values:
    """The fastest run of each burst: what the session takes when nothing else runs."""
    return np.array([min(burst) for burst in times])


def interval(mine: Sequence[Values], base: Sequence[Values] | None = None) -> tuple[float, float, float]:
    """The lower quartile of `mine`, or of `base` over that of `mine`, with its 95 % bootstrap interval.

    Args:
        mine: per launch one value per round. Over launches the geometric mean is taken.
        base: the same, measured beside `mine`; a round that one of the two did not finish does not count.
            Rounds are resampled in pairs, launches as wholes.

    Returns:
        (estimate, low, high).
    """
    rng = np.random.default_rng(0)
    theirs: Sequence[Values | None] = base if base is not None else [None] * len(mine)
    wholes, drawn = zip(*(_launch(one, other, rng) for one, other in zip(mine, theirs, strict=True)), strict=True)
    count = defaults.BOOTSTRAP_SAMPLES
    which, column = rng.integers(0, len(mine), (count, len(mine))), rng.integers(0, count, (count, len(mine)))
    samples = _geometric_mean(np.stack(drawn)[which, column])
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(_geometric_mean(np.array(wholes))), float(low), float(high)


def _launch(mine: Values, base: Values | None, rng: np.random.Generator) -> tuple[Values, Values]:
    """The estimate of one launch, and of it with its rounds resampled."""
    count = len(mine) if base is None else min(len(mine), len(base))
    rounds = rng.integers(0, count, (defaults.BOOTSTRAP_SAMPLES, count))
    drawn, whole = _quartile(mine[:count][rounds]), _quartile(mine[:count])
    if base is not None:
        drawn, whole = _quartile(base[:count][rounds]) / drawn, _quartile(base[:count]) / whole
    return whole, drawn


def _geometric_mean(values: Values) -> Values:
    return np.asarray(values[..., 0] if values.shape[-1] == 1 else np.exp(np.log(values).mean(axis=-1)))


def _quartile(values: Values) -> Values:
    return np.asarray(np.percentile(values, defaults.UNDISTURBED_PERCENTILE, axis=-1))


def _call(child: Child, method: str, *args: Any) -> Any:
    try:
        return child.call(method, *args, timeout=defaults.REQUEST_SECONDS)
    except BurnishError as error:
        return error
