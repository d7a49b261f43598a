"""Speed: the ratio of two sessions' latencies, from bursts that alternate between their processes.

Absolute times drift with the machine's load and clock; the ratio of neighbouring bursts does not. The
interval is a percentile bootstrap over rounds (Efron 1979) of the median ratio.
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
    ratios = _ratios(base or times, times) if base else 1e3 * np.array([np.median(burst) for burst in times])
    middle, low, high = interval(ratios)
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


def _ratios(eager: Times, mine: Times) -> np.ndarray[Any, Any]:
    """Per round: eager's median over mine. A round that one of them did not finish does not count."""
    pairs = list(zip(eager, mine, strict=False))
    return np.array([np.median(theirs) / np.median(own) for theirs, own in pairs])


def interval(values: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """Median of `values` with its 95 % bootstrap interval: (median, low, high)."""
    rng = np.random.default_rng(0)
    resampled = rng.choice(values, (defaults.BOOTSTRAP_SAMPLES, len(values)))
    low, high = np.percentile(np.median(resampled, axis=1), [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


def _call(child: Child, method: str, *args: Any) -> Any:
    try:
        return child.call(method, *args, timeout=defaults.REQUEST_SECONDS)
    except BurnishError as error:
        return error
