"""The gate on timed answers: what it lets pass, and what it stops, in which words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.artifact.gates import Gates
from runtimes.results import GateResult
from runtimes.validator.defaults import STRAY_ANSWERS
from runtimes.validator.gates.answers import TimedEvidence, answers
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference
from runtimes.validator.speed.watch import Excerpt, Excerpts, Ticket, WatchedAnswer

COUNT = 12
Values = np.ndarray[Any, Any]


def truth(number: int) -> Values:
    """The right answer to an input: numbers around 5, as of a network with an offset."""
    return 5 + np.random.default_rng(number).standard_normal(10)


def part(values: Values) -> Excerpts:
    kind = np.float32 if values.dtype.kind == "f" else values.dtype
    return {"y": Excerpt(values.shape, values.astype(kind))}


def reference() -> Reference:
    exact = [{"y": truth(number)} for number in range(4)]
    eager = [{"y": values["y"].astype(np.float32)} for values in exact]
    probes = [Probe(f"noise {number}", {"x": np.zeros(1)}) for number in range(4)]
    return Reference(probes, eager, exact)


def evidence(
    timed: list[Values], slow: list[Values] | None = None, eager: bool = True, **changes: Any
) -> TimedEvidence:
    """Timed answers to inputs that eager answers by `truth`; slowly, they are right or `slow`."""
    right = [truth(100 + number) for number in range(len(timed))]
    before = reference().eager[:2]
    whole = TimedEvidence(
        reference=reference(),
        precision="fp32",
        gates=Gates(),
        timed=[
            WatchedAnswer(Ticket(number, ()), part(values)) for number, values in enumerate(timed)
        ],
        slow=[part(values) for values in (right if slow is None else slow)[:8]],
        eager=[part(values) for values in right] if eager else None,
        before=before,
        after=before,
    )
    return replace(whole, **changes)


def right(count: int = COUNT) -> list[Values]:
    return [truth(100 + number) for number in range(count)]


def problem(result: GateResult) -> str:
    assert (result.gate, result.ok) == ("answers", False)
    return result.detail


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("eager", [True, False])
def test_right_answers_pass(eager: bool, precision: str) -> None:
    result = answers(evidence(right(), eager=eager, precision=precision))
    assert result.ok
    whose = "12 answers given while timed are eager's"
    assert result.detail == (
        whose if eager else "8 answers given while timed are its own without haste"
    )


@given(st.floats(0, 2e-7))
def test_rounding_is_no_difference(error: float) -> None:
    assert answers(evidence([values * (1 + error) for values in right()])).ok


@given(st.floats(1e-3, 10) | st.floats(-10, -1e-3))
def test_answers_that_are_others_slowly_fail(error: float) -> None:
    for precision in ("fp32", "int8"):
        wrong = [values + error for values in right()]
        detail = problem(answers(evidence(wrong, eager=False, precision=precision)))
        assert detail.startswith("8 of 8 answers while timed differ from the session's own ")


def test_one_hasty_answer_of_the_eight_is_enough() -> None:
    timed = right()
    timed[5] = timed[4]
    assert "1 of 8 answers" in problem(answers(evidence(timed)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_only_in_haste_fails(bad: float) -> None:
    timed = right()
    timed[0] = timed[0] * bad
    assert "by inf rms" in problem(answers(evidence(timed)))


def test_an_output_of_another_shape_fails() -> None:
    timed = [values[:9] for values in right()]
    assert "by inf rms" in problem(answers(evidence(timed)))


def test_few_answers_that_are_not_eagers_may_be_ties() -> None:
    """The session answers so without haste, too: a tie, or a cancellation, decides it otherwise."""
    few = int(STRAY_ANSWERS * COUNT)
    for strays, ok in ((few, True), (few + 1, False)):
        own = right()
        for index in range(strays):
            own[index] = truth(1000 + index)
        result = answers(evidence(own, slow=own))
        assert result.ok is ok
        if not ok:
            assert problem(result).startswith(f"{strays} of 12 answers while timed differ from eag")


def test_integers_that_are_not_eagers_are_left_to_parity() -> None:
    own = [values.astype(np.int64) for values in right()]
    moved = [values + 1 for values in own]
    pairs = evidence(moved, slow=moved, eager=False)
    assert answers(replace(pairs, eager=[part(values) for values in own])).ok


@pytest.mark.parametrize(("error", "ok"), [(0.5, True), (4.0, False)])
def test_a_lossy_artifact_is_as_near_to_eager_as_its_precision_requires(
    error: float, ok: bool
) -> None:
    rng = np.random.default_rng(0)
    own = [values + error * rng.standard_normal(10) for values in right()]
    result = answers(evidence(own, slow=own, precision="int8"))
    assert result.ok is ok
    if not ok:
        assert problem(result).endswith("dB, at least 7")


@pytest.mark.parametrize(("strays", "ok"), [(3, True), (4, False)])
def test_a_lossy_detector_may_find_another_number_of_objects_now_and_then(
    strays: int, ok: bool
) -> None:
    own = [values[:9] if index < strays else values for index, values in enumerate(right())]
    result = answers(evidence(own, slow=own, precision="int8"))
    assert result.ok is ok
    if not ok:
        assert problem(result).endswith("y is of another shape or not finite")


def test_an_answer_that_the_next_call_overwrites_fails() -> None:
    whole = evidence(right())
    timed = [replace(whole.timed[0], overwritten=("y",)), *whole.timed[1:]]
    assert problem(answers(replace(whole, timed=timed))).startswith("y of one call is overwritten")


@given(st.floats(1e-3, 10))
def test_a_probe_that_is_answered_otherwise_after_the_timing_fails(error: float) -> None:
    after = [{"y": values["y"] + np.float32(error)} for values in reference().eager[:2]]
    detail = problem(answers(evidence(right(), after=after)))
    assert detail.startswith("y at noise 0 differs by ")
    assert detail.endswith("from the answer before the timing")
