"""The ratio of two sessions' latencies, with its interval, from times of alternating bursts.

The ratio is that of the undisturbed latencies: the fastest run of each burst, and of those the lower
quartile over the rounds. Medians and tails are reported beside it. The interval is a percentile
bootstrap over rounds (Efron 1979). Where a process was placed in memory changes latency by a
percent or two for its life, so `burnish bench` starts each session several times and takes the
geometric mean (Kalibera and Jones 2013). benchmarks/repeatability.py compares this with the naive
method.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from runtimes.results import Speed
from runtimes.validator import defaults

Times = list[list[float]]
"""Seconds of each run, one list per round."""

Launches = Sequence[Times]
"""The times of one session that was started several times, each in a new process."""

Earlier = Sequence[tuple[Sequence[float], Sequence[float]]]
"""Of earlier measurements of the same session and base: the fastest run of each burst of both."""

Values = np.ndarray[Any, np.dtype[np.float64]]


def summarize(
    launches: Launches,
    base: Launches = (),
    usual: bool = True,
    width: float = defaults.HALF_WIDTH,
    earlier: Earlier = (),
) -> Speed:
    """Return latency percentiles in ms, and with `base`'s times the ratio and its interval.

    Args:
        launches: times of the session.
        base: times of the base session in the same launches.
        usual: the machine was at its usual speed; otherwise no interval counts as stable.
        width: largest half width of a stable interval, as a share of its middle.
        earlier: measurements that count as further launches.
    """
    p50, p90, p99 = (np.percentile(_flat(launches), [50, 90, 99]) * 1e3).tolist()
    rounds = sum(len(times) for times in launches)
    speed = Speed(median_ms=p50, p90_ms=p90, p99_ms=p99, rounds=rounds, usual=usual)
    paired: list[Times] = []
    paired_base: list[Times] = []
    for times, base_times in zip(launches, base, strict=False):
        if base_times and base_times is not times:
            paired.append(times)
            paired_base.append(base_times)
    fastest = [fastest_runs(times) for times in paired or launches]
    base_fastest = [fastest_runs(times) for times in paired_base]
    if paired:
        fastest += [np.array(bursts) for bursts, _ in earlier]
        base_fastest += [np.array(bursts) for _, bursts in earlier]
    middle, low, high = interval(fastest, base_fastest or None)
    narrow = (high - low) / 2 <= width * middle
    stable = usual and rounds >= defaults.MIN_ROUNDS and narrow
    if not paired:
        return speed.model_copy(update={"stable": stable})
    return speed.model_copy(
        update={
            "eager_ms": float(np.median(_flat(paired_base)) * 1e3),
            "speedup": middle,
            "ci95": (low, high),
            "stable": stable,
            "launches": len(fastest),
        }
    )


def _flat(launches: Launches) -> Values:
    return np.concatenate([np.asarray(burst) for times in launches for burst in times])


def fastest_runs(times: Times) -> Values:
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
