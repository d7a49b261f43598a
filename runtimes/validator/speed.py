"""Speed: the ratio of two sessions' latencies, from bursts that alternate between their processes.

Other work on the machine only ever adds time, and on two cores it adds much (thread pools wait for each
other). So the ratio is of what each session takes undisturbed: the fastest run of each burst, and of those the
lower quartile over the rounds. Medians and tails are reported beside it. The interval is a percentile bootstrap
over rounds (Efron 1979). benchmarks/repeatability.py compares this with the naive way.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from runtimes.errors import BurnishError
from runtimes.process import Child
from runtimes.results import Speed
from runtimes.validator import defaults

Times = list[list[float]]
"""Seconds of each run, one list per round."""

Values = np.ndarray[Any, np.dtype[np.float64]]


def measure(
    sessions: Mapping[str, Child], budget: float = defaults.BUDGET_SECONDS, base: str | None = None
) -> dict[str, Speed | BurnishError]:
    """Time sessions that each live in a process of their own, one running while the others sleep.

    Args:
        sessions: name to a Child that hosts a `SessionHost`.
        budget: seconds for each session besides `base`.
        base: the session that the others are compared with; None: no ratios.

    Returns:
        Per name its Speed, or the error that its process ended with. Without a living base there are no
        ratios, and a session that was not timed before it ended has no entry.
    """
    failed: dict[str, Speed | BurnishError] = {}
    runs: dict[str, int] = {}
    for name, child in sessions.items():
        answer = _call(child, "warm_up")
        if isinstance(answer, BurnishError):
            failed[name] = answer
        else:
            runs[name] = max(defaults.MIN_BURST_RUNS, math.ceil(defaults.BURST_SECONDS / max(answer, 1e-9)))
    times = _rounds(sessions, runs, failed, budget * max(1, len(runs) - (base in runs)), base)
    timed = [name for name in times if times[name] and name not in failed]
    done = {name: summarize(times[name], times.get(base or "")) for name in timed}
    return {**done, **failed}


def _rounds(
    sessions: Mapping[str, Child],
    runs: dict[str, int],
    failed: dict[str, Speed | BurnishError],
    budget: float,
    base: str | None,
) -> dict[str, Times]:
    times: dict[str, Times] = {name: [] for name in runs}
    shuffle, started = random.Random(0), time.perf_counter()
    rounds = 0
    while True:
        active = [name for name in runs if name not in failed]
        if not active or (base in failed):
            return times
        for name in shuffle.sample(active, len(active)):
            answer = _call(sessions[name], "burst", runs[name])
            if isinstance(answer, BurnishError):
                failed[name] = answer
            else:
                times[name].append(answer)
        rounds += 1
        spent = time.perf_counter() - started > budget
        settled = rounds >= defaults.MIN_ROUNDS and all(
            summarize(times[name], times.get(base or "")).stable for name in active if name not in failed
        )
        if settled or (spent and rounds >= 3):
            return times


def summarize(times: Times, eager: Times | None = None) -> Speed:
    """Latency percentiles in ms, and with `eager`'s times of the same rounds the ratio and its interval."""
    flat = np.concatenate([np.asarray(burst) for burst in times]) * 1e3
    p50, p90, p99 = (float(value) for value in np.percentile(flat, [50, 90, 99]))
    speed = Speed(median_ms=p50, p90_ms=p90, p99_ms=p99, rounds=len(times))
    base = eager if eager and eager is not times else None
    middle, low, high = interval(_fastest(times), _fastest(base) if base else None)
    stable = len(times) >= defaults.MIN_ROUNDS and (high - low) / 2 <= defaults.HALF_WIDTH * middle
    if base is None:
        return speed.model_copy(update={"stable": stable})
    return speed.model_copy(
        update={
            "eager_ms": float(np.median(np.concatenate([np.asarray(burst) for burst in base])) * 1e3),
            "speedup": middle,
            "ci95": (low, high),
            "stable": stable,
        }
    )


def _fastest(times: Times) -> Values:
    """The fastest run of each burst: what the session takes when nothing else runs."""
    return np.array([min(burst) for burst in times])


def interval(mine: Values, base: Values | None = None) -> tuple[float, float, float]:
    """The lower quartile of `mine`, or of `base` over that of `mine`, with its 95 % bootstrap interval.

    Args:
        mine: one value per round.
        base: one value per round, measured beside those of `mine`; a round that one of the two did not
            finish does not count. Rounds are resampled in pairs.

    Returns:
        (estimate, low, high).
    """
    count = len(mine) if base is None else min(len(mine), len(base))
    rounds = np.random.default_rng(0).integers(0, count, (defaults.BOOTSTRAP_SAMPLES, count))
    drawn, whole = _quartile(mine[:count][rounds]), _quartile(mine[:count])
    if base is not None:
        drawn, whole = _quartile(base[:count][rounds]) / drawn, _quartile(base[:count]) / whole
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(whole), float(low), float(high)


def _quartile(values: Values) -> Values:
    return np.asarray(np.percentile(values, defaults.UNDISTURBED_PERCENTILE, axis=-1))


def _call(child: Child, method: str, *args: Any) -> Any:
    try:
        return child.call(method, *args, timeout=defaults.REQUEST_SECONDS)
    except BurnishError as error:
        return error
