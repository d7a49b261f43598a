"""A seeded sample of the answers that a session gives while it is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from runtimes.spec import Arrays
from runtimes.validator.defaults import WATCHED_ANSWERS, WATCHED_VALUES

Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Ticket:
    """The number and sizes of timed inputs, by which they can be made again."""

    number: int
    sizes: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Excerpt:
    """The shape of an output, and as many of its values as are compared, spread evenly."""

    shape: tuple[int, ...]
    values: Values


Excerpts = dict[str, Excerpt]
"""Excerpts of one answer, by output."""


@dataclass(frozen=True)
class WatchedAnswer:
    """An answer that was given while a session was timed.

    Attributes:
        ticket: of its inputs.
        outputs: as they were returned.
        overwritten: names of outputs that a later call changed.
    """

    ticket: Ticket
    outputs: Excerpts
    overwritten: tuple[str, ...] = ()


def excerpt(answer: Arrays, ticket: Ticket) -> Excerpts:
    """Return excerpts of an answer's outputs; the ticket decides where they begin."""
    excerpts: Excerpts = {}
    for name, array in answer.items():
        step = -(-array.size // WATCHED_VALUES) or 1
        values = array.reshape(-1)[ticket.number % step :: step].copy()
        excerpts[name] = Excerpt(array.shape, values)
    return excerpts


@dataclass
class _Pending:
    """An answer that the session may still overwrite, and the place where it will be kept."""

    answer: Arrays
    watched: WatchedAnswer
    slot: int | None


@dataclass
class Watch:
    """Keeps answers: a random sample of those in bursts, and all others that `look` is called with."""

    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    _sample: dict[int, WatchedAnswer] = field(default_factory=dict)
    _kept: list[WatchedAnswer] = field(default_factory=list)
    _pending: list[_Pending] = field(default_factory=list)
    _offered: int = 0

    def choose(self, count: int) -> tuple[int | None, int]:
        """Choose one of `count` calls to watch, and its slot; None if the sample does without.

        Method: reservoir sampling (Vitter 1985, algorithm R), so that early and late calls count
        alike.
        """
        slot = self._offered
        self._offered += 1
        if slot >= WATCHED_ANSWERS:
            slot = int(self._rng.integers(self._offered))
            if slot >= WATCHED_ANSWERS:
                return None, slot
        return int(self._rng.integers(count)), slot

    def look(self, ticket: Ticket, answer: Arrays, slot: int | None = None) -> None:
        """Keep an answer: in a slot of the sample, or for good."""
        watched = WatchedAnswer(ticket, excerpt(answer, ticket))
        self._pending.append(_Pending(answer, watched, slot))

    def settle(self, last: int) -> None:
        """Compare answers with what has become of them, if a later call than theirs was made."""
        waiting: list[_Pending] = []
        for pending in self._pending:
            ticket = pending.watched.ticket
            if ticket.number >= last:
                waiting.append(pending)
            else:
                self._store(pending)
        self._pending = waiting

    def _store(self, pending: _Pending) -> None:
        watched = pending.watched
        now = excerpt(pending.answer, watched.ticket)
        changed = [name for name, before in watched.outputs.items() if not _same(before, now[name])]
        watched = WatchedAnswer(watched.ticket, watched.outputs, tuple(changed))
        if pending.slot is None:
            self._kept.append(watched)
        else:
            self._sample[pending.slot] = watched

    def answers(self) -> Sequence[WatchedAnswer]:
        """Return the kept answers in a random order."""
        answers = [*self._sample.values(), *self._kept]
        return [answers[index] for index in np.random.default_rng(1).permutation(len(answers))]


def _same(first: Excerpt, second: Excerpt) -> bool:
    return first.values.tobytes() == second.values.tobytes()
