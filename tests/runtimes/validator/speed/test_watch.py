"""The sample of watched answers: bounded, of all calls alike, and aware of overwritten arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimes.validator.defaults import WATCHED_ANSWERS, WATCHED_VALUES
from runtimes.validator.speed.watch import Ticket, Watch, excerpt


def answers_to(watch: Watch, bursts: int, runs: int) -> None:
    """Run bursts of calls whose answer is the number of the call."""
    for burst in range(bursts):
        chosen, slot = watch.choose(runs)
        for index in range(runs):
            number = burst * runs + index
            if index == chosen:
                watch.look(Ticket(number, ()), {"y": np.array([number])}, slot)
        watch.settle((burst + 1) * runs)


@given(st.integers(0, 60), st.integers(1, 5))
@settings(max_examples=30)
def test_as_many_answers_are_kept_as_are_wanted(bursts: int, runs: int) -> None:
    watch = Watch()
    answers_to(watch, bursts, runs)
    kept = watch.answers()
    assert len(kept) == min(bursts, WATCHED_ANSWERS)
    assert all(answer.outputs["y"].values == [answer.ticket.number] for answer in kept)
    assert not any(answer.overwritten for answer in kept)


def test_early_and_late_calls_are_watched_alike() -> None:
    watch = Watch()
    answers_to(watch, 1000, 3)
    numbers = [answer.ticket.number for answer in watch.answers()]
    assert 1000 < np.mean(numbers) < 2000
    assert len({number % 3 for number in numbers}) == 3


def test_an_answer_that_a_later_call_overwrites_is_reported() -> None:
    watch, buffer = Watch(), np.zeros(3)
    watch.look(Ticket(4, ()), {"y": buffer, "z": np.ones(2)})
    watch.settle(4)
    assert watch.answers() == [], "no later call has been made"
    buffer[:] = 1
    watch.settle(5)
    [answer] = watch.answers()
    assert answer.overwritten == ("y",)
    np.testing.assert_array_equal(answer.outputs["y"].values, np.zeros(3))


def test_an_answer_that_is_kept_for_good_takes_no_place_of_the_sample() -> None:
    watch = Watch()
    watch.look(Ticket(0, ()), {"y": np.zeros(1)})
    answers_to(watch, 100, 1)
    assert len(watch.answers()) == WATCHED_ANSWERS + 1


@pytest.mark.parametrize("size", [0, 1, WATCHED_VALUES, WATCHED_VALUES + 1, 5 * WATCHED_VALUES + 3])
def test_an_excerpt_is_bounded_and_begins_elsewhere_for_another_call(size: int) -> None:
    values = np.arange(size).reshape(-1, 1)
    parts = [excerpt({"y": values}, Ticket(number, ()))["y"] for number in range(8)]
    assert {part.shape for part in parts} == {values.shape}
    assert all(part.values.size <= WATCHED_VALUES for part in parts)
    seen = set(np.concatenate([part.values for part in parts]).tolist())
    assert seen == set(range(size)), "together they see all values"
    assert not any(np.shares_memory(part.values, values) for part in parts)
