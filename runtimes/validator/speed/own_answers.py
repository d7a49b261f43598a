"""Answers that one session gives while it is timed, compared with its own: nobody else is asked."""

from __future__ import annotations

from runtimes.artifact.artifact import Manifest
from runtimes.process.process import Child
from runtimes.spec import best_sizes
from runtimes.validator.defaults import AGAIN_PAUSE, AGAIN_SECONDS, FIRST_PROBES, REQUEST_SECONDS
from runtimes.validator.gates.answers import own_problem
from runtimes.validator.speed.watch import Excerpts, Ticket

_FIRST_NUMBER = 1 << 40  # of inputs that no timed call reaches


def first_answers(child: Child, manifest: Manifest) -> list[Excerpts]:
    """Return a session's answers to some inputs that are not timed."""
    sizes = tuple(best_sizes(manifest.dims).items())
    tickets = [Ticket(_FIRST_NUMBER + number, sizes) for number in range(FIRST_PROBES)]
    return _answers(child, tickets, 0.0)


def timed_problem(child: Child, manifest: Manifest, before: list[Excerpts]) -> str | None:
    """Return how a session answered otherwise while it was timed, or does so since then; or None.

    Args:
        child: hosts a `SessionHost` that was timed.
        manifest: of its artifact.
        before: its `first_answers` before the timing.
    """
    timed = child.call("watched_answers", timeout=REQUEST_SECONDS)
    slow = _answers(child, [answer.ticket for answer in timed], AGAIN_PAUSE)
    return own_problem(timed, slow, before, first_answers(child, manifest))


def _answers(child: Child, tickets: list[Ticket], pause: float) -> list[Excerpts]:
    answers: list[Excerpts] = child.call(
        "answer_again", tickets, pause, AGAIN_SECONDS, timeout=REQUEST_SECONDS
    )
    return answers
