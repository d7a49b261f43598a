"""The ratio of latencies, from predefined times."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.validator import defaults
from runtimes.validator.speed.ratio import interval, summarize

seconds = st.floats(1e-6, 10.0)
bursts = st.lists(st.lists(seconds, min_size=1, max_size=4), min_size=1, max_size=12)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_the_interval_contains_the_lower_quartile(values: list[float]) -> None:
    middle, low, high = interval([np.array(values)])
    assert middle == np.percentile(values, 25)
    assert min(values) <= low <= middle <= high <= max(values)


@given(seconds, st.integers(1, 20))
def test_equal_values_leave_no_doubt(value: float, count: int) -> None:
    assert interval([np.full(count, value)]) == (value, value, value)


def test_more_rounds_make_the_interval_narrower() -> None:
    values = np.random.default_rng(1).normal(10, 1, 400)
    _, low_few, high_few = interval([values[:20]])
    _, low_many, high_many = interval([values])
    assert high_many - low_many < high_few - low_few


@given(bursts, st.integers(-3, 3))
def test_a_session_that_takes_k_times_as_long_is_k_times_as_slow(
    eager: list[list[float]], power: int
) -> None:
    factor = 2.0**power
    speed = summarize([[[time * factor for time in burst] for burst in eager]], [eager])
    assert speed.speedup == pytest.approx(1 / factor)
    assert speed.ci95 == pytest.approx((1 / factor, 1 / factor))
    assert speed.stable is (len(eager) >= defaults.MIN_ROUNDS)


@given(bursts)
def test_percentiles_are_of_all_runs_in_milliseconds(times: list[list[float]]) -> None:
    speed = summarize([times])
    runs = [time for burst in times for time in burst]
    assert speed.median_ms == pytest.approx(1e3 * np.median(runs))
    assert speed.median_ms is not None and speed.p90_ms is not None and speed.p99_ms is not None
    assert speed.median_ms <= speed.p90_ms <= speed.p99_ms <= 1e3 * max(runs) * (1 + 1e-9)
    assert (speed.rounds, speed.eager_ms, speed.speedup, speed.ci95) == (
        len(times),
        None,
        None,
        None,
    )


def test_load_that_slows_both_down_does_not_change_the_ratio() -> None:
    drift = [1.0, 5.0, 2.0, 9.0, 1.0, 3.0, 4.0, 2.0]
    speed = summarize(
        [[[0.001 * load] * 3 for load in drift]], [[[0.004 * load] * 3 for load in drift]]
    )
    assert speed.speedup == pytest.approx(4)
    assert speed.stable


def test_ratios_that_scatter_are_unstable() -> None:
    scattered = np.random.default_rng(0).lognormal(0, 1, 20)
    speed = summarize([[[float(time)] for time in scattered]], [[[1.0]] * 20])
    assert speed.stable is False


def test_on_a_machine_that_is_not_at_its_usual_speed_nothing_is_stable() -> None:
    assert summarize([[[1.0]] * 8], [[[2.0]] * 8]).stable
    assert not summarize([[[1.0]] * 8], [[[2.0]] * 8], usual=False).stable


def test_load_that_only_one_of_them_met_does_not_change_the_ratio() -> None:
    spoilt = [
        [9.0] * 3,
        [1.0, 9.0, 9.0],
        [9.0] * 3,
        [1.0] * 3,
        [9.0, 1.0, 9.0],
        [1.0] * 3,
        [1.0] * 3,
        [1.0] * 3,
    ]
    speed = summarize([spoilt], [[[4.0] * 3] * len(spoilt)])
    assert speed.speedup == 4


def test_a_round_that_one_session_did_not_finish_does_not_count() -> None:
    speed = summarize([[[1.0]] * 3], [[[2.0]] * 3 + [[100.0]]])
    assert speed.speedup == 2


def test_a_process_that_was_placed_badly_is_one_launch_of_several() -> None:
    steady, lucky = [[1.0]] * 8, [[0.5]] * 8
    speed = summarize([steady, lucky, steady], [[[2.0]] * 8] * 3)
    assert speed.speedup == pytest.approx((2 * 4 * 2) ** (1 / 3)), (
        "the geometric mean of the launches' ratios"
    )
    assert speed.ci95 == pytest.approx((2, 4)), "launches are resampled as wholes"
    assert (speed.rounds, speed.stable) == (24, False)


def test_without_a_round_of_eager_there_is_no_ratio() -> None:
    speed = summarize([[[1.0]]], [[]])
    assert (speed.median_ms, speed.speedup, speed.eager_ms) == (1000, None, None)


def test_earlier_measurements_are_further_launches_of_the_ratio_alone() -> None:
    now = summarize([[[1.0, 9.0]] * 8], [[[2.0]] * 8])
    pooled = summarize([[[1.0, 9.0]] * 8], [[[2.0]] * 8], earlier=[([0.5] * 8, [4.0] * 8)])
    assert now.speedup == 2
    assert pooled.speedup == pytest.approx((2 * 8) ** 0.5)
    assert pooled.ci95 == pytest.approx((2, 8))
    assert (now.launches, pooled.launches) == (1, 2)
    for name in ("median_ms", "p90_ms", "p99_ms", "eager_ms", "rounds"):
        assert getattr(pooled, name) == getattr(now, name)
    alone = summarize([[[1.0]] * 8], earlier=[([0.5] * 8, [4.0] * 8)])
    assert (alone.launches, alone.speedup) == (1, None)
