"""A session whose timed answers are not its own otherwise is found without any reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runtimes.artifact.artifact import Artifact
from runtimes.session import SessionOptions
from runtimes.validator.host import start
from runtimes.validator.speed.own_answers import first_answers, timed_problem
from runtimes.validator.speed.speed import collect

Make = Callable[..., Artifact]


def problem(artifact: Artifact) -> str | None:
    """Time an artifact alone, as `burnish bench` does, and look at its answers."""
    child = start(artifact, "cpu", SessionOptions(threads=1, trust=True))
    try:
        before = first_answers(child, artifact.manifest)
        collect({"own": child}, 0.3, comparisons={"own": []})
        return timed_problem(child, artifact.manifest, before)
    finally:
        child.kill()


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("repeats its last answer in haste", "answers while timed differ from the session's own"),
        ("is off by two after 100 calls", "from the answer before the timing"),
        ("looks up arrays by their identity", "answers while timed differ from the session's own"),
        ("returns one of ten buffers", "is overwritten by the next"),
    ],
)
def test_a_session_that_is_another_while_timed_is_found(
    linear: Make, behaviour: str, words: str
) -> None:
    assert words in (problem(linear(behaviour)) or "nothing")


def test_a_session_that_answers_alike_has_no_problem(linear: Make) -> None:
    assert problem(linear()) is None
