"""Counts travel from deep inside a step to its watcher, and harm nothing on the way."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import pytest

from runtimes import progress
from runtimes.process import child
from runtimes.process.process import Child, ChildDied, Limits, isolated
from runtimes.progress import Count, Counts, Line, Progress, Watcher, counted, task, watched

run = partial(isolated, what="the step", torch=False)


class Notes(Watcher):
    """Records messages and states."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.states: list[Progress] = []

    def __call__(self, message: str) -> None:
        self.messages.append(message)

    def report(self, progress: Progress) -> None:
        self.states.append(progress)

    @property
    def counts(self) -> list[Counts]:
        return [state.counts for state in self.states]


@pytest.fixture
def every_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show every count, even a moment after another."""
    monkeypatch.setattr(progress, "_SECONDS", 0.0)


def steps(count: int) -> int:
    """Count like a step: in parts of parts."""
    for _ in counted(range(count), "epochs"):
        with task("batches", 2) as advance:
            advance(1)
            advance(1)
    return count


def rises(counts: list[Counts]) -> None:
    """Assert that no count decreases while it is open, and that each reaches its total."""
    outer = [state[0] for state in counts if state]
    assert all(before.done <= after.done for before, after in pairwise(outer))
    assert outer[-1].done == outer[-1].total
    inner = [state[1] for state in counts if len(state) > 1]
    assert any(count.done == count.total for count in inner)
    for before, after in pairwise(counts):
        if len(before) == len(after) == 2 and before[0] == after[0]:
            assert before[1].done <= after[1].done


def test_without_a_line_counting_does_nothing() -> None:
    assert steps(3) == 3
    assert list(counted("abc", "letters")) == ["a", "b", "c"]


@pytest.mark.usefixtures("every_count")
def test_a_watcher_gets_all_counts_of_a_line_and_its_end() -> None:
    notes = Notes()
    with watched(notes, "training", timed=True, overall=True) as line:
        line.seconds = 0.0
        steps(3)
    rises(notes.counts)
    assert {(state.what, state.timed, state.overall) for state in notes.states} == {
        ("training", True, True)
    }
    assert [state.ended for state in notes.states] == [False] * (len(notes.states) - 1) + [True]
    assert (Count("epochs", 1, 3), Count("batches", 1, 2)) in notes.counts
    assert notes.counts[0] == notes.counts[-1] == (), "nothing is counted before and after"


def test_a_function_for_messages_alone_gets_what_it_did_before() -> None:
    messages: list[str] = []
    with watched(messages.append, "training") as line:
        steps(3)
        line.relay((Count("epochs", 1),))
    assert messages == []


@pytest.mark.usefixtures("every_count")
def test_lines_side_by_side_do_not_mix() -> None:
    notes = Notes()

    def run_step(number: int) -> None:
        with watched(notes, f"step {number}"):
            steps(number)

    threads = [threading.Thread(target=run_step, args=(number,)) for number in (2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in (2, 3, 4):
        states = [state for state in notes.states if state.what == f"step {number}"]
        assert len({state.task for state in states}) == 1
        rises([state.counts for state in states])
        assert {state.counts[0].total for state in states if state.counts} == {number}


@pytest.mark.usefixtures("every_count")
def test_a_line_is_counted_from_several_threads() -> None:
    notes = Notes()
    with watched(notes, "artifacts") as line, line.task("done", 40) as advance:
        threads = [
            threading.Thread(target=lambda: [advance(1) for _ in range(10)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rises([(counts[0], Count("", 1, 1)) for counts in notes.counts if counts])


def test_few_counts_are_shown_of_many_but_the_last_one() -> None:
    shown: list[Counts] = []
    line = Line(lambda counts: not shown.append(counts), seconds=3600)
    with line.task("probes", 1000) as advance:
        for _ in range(1000):
            advance(1)
    assert shown == [(Count("probes", 0, 1000),), (Count("probes", 1000, 1000),), ()]


def test_many_short_tasks_do_not_flood_the_line() -> None:
    shown: list[Counts] = []
    line = Line(lambda counts: not shown.append(counts), seconds=3600)
    for _ in range(1000):
        with line.task("samples", 5) as advance:
            advance(5)
    assert 3 <= len(shown) < 40
    assert shown[-1] == (), "what is shown at the end is over"


def test_a_count_that_could_not_be_sent_is_sent_with_the_next() -> None:
    sent: list[Counts] = []
    line = Line(lambda counts: len(sent.append(counts) or sent) != 2, seconds=0)
    with line.task("probes", 2) as advance:
        advance(1)
        advance(0)
        advance(0)
    assert [counts[0].done for counts in sent if counts] == [0, 1, 1]


def test_more_than_all_is_not_done() -> None:
    shown: list[Counts] = []
    line = Line(lambda counts: not shown.append(counts), seconds=0)
    with line.task("probes", 2) as advance:
        advance(5)
        advance(-1)
    assert shown[-2] == (Count("probes", 2, 2),)


@pytest.mark.usefixtures("every_count")
def test_who_stops_early_closes_the_count() -> None:
    notes = Notes()
    with watched(notes, "comparing"):
        for letter in counted("abcdef", "letters"):
            if letter == "b":
                break
        assert notes.counts[-1] == ()
    assert (Count("letters", 2, 6),) in notes.counts


def endless() -> Iterator[int]:
    yield from range(3)


@pytest.mark.usefixtures("every_count")
def test_items_without_a_length_have_no_total_and_can_go_on() -> None:
    notes = Notes()
    with watched(notes, "training"):
        assert list(counted(endless(), "items")) == [0, 1, 2]
        assert list(counted(range(7, 9), "epochs", 9, 7, limit=True)) == [7, 8]
    assert (Count("items", 3, None),) in notes.counts
    assert [counts[0].done for counts in notes.counts if counts and counts[0].limit] == [0, 7, 8, 9]


class Broken(Notes):
    """A display that fails."""

    def report(self, progress: Progress) -> None:
        super().report(progress)
        raise RuntimeError("no screen")


@pytest.mark.usefixtures("every_count")
def test_a_watcher_that_fails_is_left_alone_and_the_work_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = Broken()
    with caplog.at_level(logging.WARNING), watched(broken, "training") as line:
        assert run(steps, 3, line=line) == 3
    assert len(broken.states) == 1
    assert [record.message for record in caplog.records] == [
        "training: its progress can no longer be shown"
    ]


@pytest.mark.usefixtures("every_count")
def test_the_counts_of_a_child_process_arrive_before_its_answer() -> None:
    notes = Notes()
    with watched(notes, "training") as line:
        assert run(steps, 5, line=line) == 5
        assert notes.counts[-1] == (), "the child's last word"
    rises(notes.counts)
    assert (Count("epochs", 3, 5), Count("batches", 1, 2)) in notes.counts


def test_a_child_without_a_line_counts_for_nobody() -> None:
    assert run(steps, 3) == 3


class Slow:
    """Lives in a child, and counts for longer than a child may keep silent."""

    def ready(self) -> None:
        """Answer once the process has started, which may take long."""

    def count(self) -> None:
        """Take 3 seconds."""
        end = time.monotonic() + 3
        for _ in counted(
            itertools.takewhile(lambda number: time.monotonic() < end, itertools.count()), "things"
        ):
            time.sleep(0.02)


def test_who_counts_is_not_silent() -> None:
    with watched(Notes(), "training") as line, Child(Slow, what="it", line=line) as slow:
        slow.call("ready")
        slow.call("count", timeout=2)
    with Child(Slow, what="it") as slow, pytest.raises(ChildDied, match="gave no answer for 2 s"):
        slow.call("ready")
        slow.call("count", timeout=2)


def test_a_watched_child_that_hangs_is_stopped_all_the_same() -> None:
    with watched(Notes(), "waiting") as line, pytest.raises(ChildDied, match="made no progress"):
        run(time.sleep, 600, line=line, limits=Limits(idle=1))


def test_a_parent_that_does_not_read_or_is_gone_harms_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pipe gets full, and no count waits for room in it; then it is closed."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    monkeypatch.setattr(child, "_parent", theirs)
    counts = (Count("probes", 1, 10),)
    sender = threading.Thread(
        target=lambda: [child._count(counts) for _ in range(20_000)], daemon=True
    )
    sender.start()
    sender.join(timeout=60)
    assert not sender.is_alive(), "it waits for a reader"
    assert ours.recv() == child.Counted(counts), "what fitted arrives whole"
    ours.close()
    child._count(counts)
    child.tell("to nobody")
    theirs.close()
    child._count(counts)
    child.tell("to nobody")


def gone(seconds: float) -> None:
    steps(int(seconds))
    child._parent.close()
    steps(3)
    child.tell("still here")


@pytest.mark.usefixtures("every_count")
def test_a_child_whose_pipe_is_closed_dies_of_nothing_that_it_counts() -> None:
    notes = Notes()
    with (
        watched(notes, "training") as line,
        Child(partial(dict, key=1), what="it", line=line) as process,
    ):
        assert process.call("get", "key") == 1
    with (
        watched(notes, "training") as line,
        pytest.raises(ChildDied, match="exit status 1 and no answer"),
    ):
        run(gone, 2.0, line=line)
    rises([counts for counts in notes.counts if not counts or counts[0].total == 2])
