"""Gates on speed: a ratio reaches its limit, or does not, or nobody can tell."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.artifact.gates import Gates
from runtimes.results import Deadline, GateResult, Outcome, Parent, Speed
from runtimes.validator import defaults
from runtimes.validator.gates import speed as speed_gates
from runtimes.validator.gates.speed import decide, decide_deadline

ratios = st.floats(0.01, 1000)


def timed(low: float, high: float, **changes: Any) -> Speed:
    """A measurement of enough rounds on a machine at its usual speed."""
    values = {"rounds": defaults.MIN_ROUNDS, "usual": True, "stable": True, "seconds": 4.0}
    middle = (low + high) / 2
    return Speed.model_validate({"speedup": middle, "ci95": (low, high), **values, **changes})


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (1.5, 1.7, Outcome.HOLDS),
        (1.0, 1.0, Outcome.HOLDS),
        (0.9, 1.1, Outcome.UNDECIDED),
        (0.8, 0.99, Outcome.FAILS),
    ],
)
def test_an_interval_lies_above_the_limit_or_below_or_on_both_sides(
    low: float, high: float, outcome: Outcome
) -> None:
    result = speed_gates.speed(timed(low, high), Gates(speedup=1.0))
    assert result.outcome is outcome
    assert result.required
    middle = (low + high) / 2
    assert result.detail == f"{middle:.2f}x eager (95 %: {low:.2f} to {high:.2f}), required 1x"


@given(ratios, ratios, ratios, st.booleans())
def test_no_ratio_both_holds_and_fails(low: float, high: float, limit: float, sure: bool) -> None:
    interval = min(low, high), max(low, high)
    answer = decide(interval, limit, sure)
    if answer is not None:
        assert answer is (sum(interval) / 2 >= limit)
        wider = interval[0] / 1e6, interval[1] * 1e6
        assert decide(wider, limit, sure) is None, "what is not known decides nothing"
    if not sure:
        assert answer is None or answer is decide(interval, limit), "less is sure, nothing else"


def test_the_wide_interval_of_a_noisy_machine_decides_neither_fifty_nor_one() -> None:
    noisy = timed(0.12, 298.95, speedup=52.83, stable=False)
    result = speed_gates.speed(noisy, Gates(speedup=50))
    assert result.outcome is Outcome.UNDECIDED
    assert result.detail.endswith("; unstable")
    assert speed_gates.speed(noisy, Gates()).outcome is Outcome.UNDECIDED


def test_a_default_that_nobody_wrote_is_not_required() -> None:
    assert not speed_gates.speed(timed(0.9, 1.1), Gates()).required
    parent = Parent(name="float", size_bytes=1, speedup=1.0, ci95=(0.9, 1.1))
    beside = timed(0.9, 1.1, parent=parent)
    results = [speed_gates.parent(beside, gates) for gates in (Gates(), Gates(parent_speedup=1.0))]
    assert [result.outcome for result in results if result] == [Outcome.UNDECIDED] * 2
    assert [result.required for result in results if result] == [False, True]


@pytest.mark.parametrize("changes", [{"usual": False}, {"rounds": 3}])
def test_a_slow_machine_or_few_rounds_decide_only_what_is_far_from_the_limit(
    changes: dict[str, Any],
) -> None:
    gates = Gates(speedup=1.0)
    near, clear = timed(1.2, 1.3, **changes), timed(6.0, 8.0, **changes)
    assert speed_gates.speed(near, gates).outcome is Outcome.UNDECIDED
    assert speed_gates.speed(clear, gates).outcome is Outcome.HOLDS
    assert speed_gates.speed(timed(0.1, 0.2, **changes), gates).outcome is Outcome.FAILS


def test_what_would_decide_it_is_said() -> None:
    gates = Gates(speedup=1.0)
    near = speed_gates.speed(timed(0.99, 1.15), gates).remedy or ""
    seconds = re.search(r"--seconds (\d+) or a quieter machine", near)
    assert seconds and 4 < int(seconds[1]) <= defaults.LONGEST_SECONDS
    nearer = speed_gates.speed(timed(0.9, 1.1001), gates).remedy or ""
    assert nearer.startswith("the ratio is too near to the limit for this machine")
    slow = speed_gates.speed(timed(0.9, 1.1, usual=False), gates).remedy or ""
    assert slow == "the machine was slower than usual: repeat it on a quieter machine"


def test_an_unstable_measurement_says_so() -> None:
    assert speed_gates.speed(timed(1, 3, stable=False), Gates()).detail.endswith("; unstable")


def test_speed_that_was_not_measured_or_not_required_is_not_judged() -> None:
    assert speed_gates.speed(Speed(), Gates()) == GateResult(
        gate="speed", ok=None, detail="not measured"
    )
    slow = timed(0.1, 0.1)
    assert speed_gates.speed(slow, Gates(speedup=None)) == GateResult(
        gate="speed", ok=None, detail="not required"
    )


def requests(count: int, late: int, slowest: float, p99: float = 33.0) -> Deadline:
    """Requests at an interval of 33 ms, with so many late ones."""
    share = 1e4 * late / count
    return Deadline(
        deadline_ms=33, requests=count, p99_ms=p99, misses_per_10000=share, slowest_ms=slowest
    )


@pytest.mark.parametrize(
    ("sent", "outcome"),
    [
        (requests(400, 0, 32.9), Outcome.HOLDS),
        (requests(100, 0, 21.9), Outcome.HOLDS),
        (requests(2000, 9, 60.0), Outcome.HOLDS),
        (requests(300, 0, 32.9), Outcome.UNDECIDED),
        (requests(400, 4, 40.0), Outcome.UNDECIDED),
        (requests(100, 2, 40.0), Outcome.UNDECIDED),
        (requests(300, 12, 40.0), Outcome.FAILS),
        (requests(100, 100, 60.0), Outcome.FAILS),
    ],
)
def test_a_deadline_holds_or_fails_if_the_share_of_late_requests_is_proven(
    sent: Deadline, outcome: Outcome
) -> None:
    result = speed_gates.deadline(Speed(deadline=sent), Gates(deadline_ms=33))
    assert result.outcome is outcome
    assert result.required
    assert (result.remedy is not None) is (outcome is Outcome.UNDECIDED)


def test_a_deadline_says_what_was_measured_and_what_would_decide_it() -> None:
    limits = Gates(deadline_ms=33)
    late = speed_gates.deadline(Speed(deadline=requests(300, 12, 40.0, 33.1)), limits)
    assert late.detail == "p99 33.1 ms of 300 requests, deadline 33 ms, 400 misses per 10,000"
    few = speed_gates.deadline(Speed(deadline=requests(300, 0, 32.0)), limits).remedy or ""
    seconds = re.fullmatch(r"about (\d+) requests may decide it: --seconds (\d+)", few)
    assert seconds and 381 <= int(seconds[1]) <= 500
    assert int(seconds[2]) == -(-int(seconds[1]) * 33 // 1000)
    near = speed_gates.deadline(Speed(deadline=requests(400, 4, 40.0)), limits).remedy or ""
    assert near.startswith("too near to 99 % in time for this machine")


def test_late_requests_on_a_slow_machine_decide_only_far_beyond_the_deadline() -> None:
    limits = Gates(deadline_ms=33)
    near, far = requests(300, 30, 80.0, 40.0), requests(300, 300, 80.0, 70.0)
    result = speed_gates.deadline(Speed(deadline=near, usual=False), limits)
    assert result.outcome is Outcome.UNDECIDED
    assert "quieter machine" in (result.remedy or "")
    assert speed_gates.deadline(Speed(deadline=far, usual=False), limits).ok is False


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(1, 100))
def test_no_deadline_both_holds_and_fails(count: int, share: float, slowest: float) -> None:
    late = round(share * count) if slowest > 33 else 0
    answer = decide_deadline(requests(count, late, slowest))
    if answer is True:
        assert late / count <= defaults.LATE_SHARE
    if answer is False:
        assert late / count > defaults.LATE_SHARE


def test_a_deadline_that_was_not_measured_or_not_required_is_not_judged() -> None:
    measured = Speed(deadline=requests(400, 0, 10.0))
    assert speed_gates.deadline(measured, Gates()).outcome is Outcome.NOT_JUDGED
    assert speed_gates.deadline(Speed(), Gates(deadline_ms=33)) == GateResult(
        gate="deadline", ok=None, detail="not measured"
    )
