"""The gate `answers`: what a session answers while it is timed is what it answers otherwise.

An engine that repeats its last answer as soon as calls come quickly is fast and wrong. So a sample
of the timed answers is compared with those of the same session, given slowly, and with eager's; and
after the timing the first probes are answered once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.artifact.gates import Gates
from runtimes.results import GateResult
from runtimes.spec import Arrays
from runtimes.validator.defaults import (
    EDGE_ALLOWANCE,
    ERROR_FLOOR,
    NOISE_FP32,
    SIZE_ALLOWANCE_DB,
    SQNR_DB,
    STRAY_ANSWERS,
)
from runtimes.validator.outputs.distance import error_scale, rms, typical_errors
from runtimes.validator.reference import Reference
from runtimes.validator.speed.watch import Excerpts, WatchedAnswer

Values = np.ndarray[Any, Any]
_Allowance = Callable[[str, Values], float]
"""From the name of an output and its right values to the allowed rms difference."""


@dataclass(frozen=True)
class TimedEvidence:
    """Answers in and after the timing, and those that they are compared with.

    Attributes:
        reference, precision, gates: as the numbers were judged by.
        timed: answers that were watched.
        slow: the session's answers to the first of the same inputs, each after a pause.
        eager: eager's answers to the first of them; None if there is no eager model.
        before: the answers to the first probes before the timing.
        after: the same afterwards.
    """

    reference: Reference
    precision: str
    gates: Gates
    timed: Sequence[WatchedAnswer]
    slow: Sequence[Excerpts]
    eager: Sequence[Excerpts] | None
    before: Sequence[Arrays]
    after: Sequence[Arrays]


def answers(evidence: TimedEvidence) -> GateResult:
    """Check the answers that were given in and after the timing."""
    for problem in _problems(evidence):
        return GateResult(gate="answers", ok=False, detail=problem)
    judge, again = "eager's", evidence.eager
    if again is None:
        judge, again = "its own without haste", evidence.slow
    compared = min(len(evidence.timed), len(again))
    return GateResult(
        gate="answers", ok=True, detail=f"{compared} answers given while timed are {judge}"
    )


def own_problem(
    timed: Sequence[WatchedAnswer],
    slow: Sequence[Excerpts],
    before: Sequence[Excerpts],
    after: Sequence[Excerpts],
) -> str | None:
    """Return how a session answers otherwise while it is timed, if nobody knows the right answers.

    Args:
        timed: answers that were watched.
        slow: the session's answers to the first of the same inputs, each after a pause.
        before: answers to some inputs before the timing.
        after: answers to the same inputs afterwards.
    """
    for problem in (*_overwritten(timed), *_hasty(timed, slow, _own_rounding)):
        return problem
    for first, later in zip(before, after, strict=True):
        for name, part in first.items():
            difference = _between(later, first, name)
            if not difference <= _own_rounding(name, part.values):
                return f"{name} differs by {difference:.3g} rms from the answer before the timing"
    return None


def _own_rounding(name: str, right: Values) -> float:
    """Return the allowed difference between two answers of one session to the same inputs."""
    return NOISE_FP32 * EDGE_ALLOWANCE * ERROR_FLOOR * _magnitude(right)


def _problems(evidence: TimedEvidence) -> Iterator[str]:
    """Yield what is wrong, the plainest fault first."""
    yield from _overwritten(evidence.timed)
    yield from _hasty(evidence.timed, evidence.slow, _rounding(evidence.reference, NOISE_FP32))
    yield from _drifted(evidence)
    if evidence.eager is not None and evidence.precision == "fp32":
        yield from _unlike_eager(evidence, evidence.eager)
    elif evidence.eager is not None:
        yield from _far_from_eager(evidence, evidence.eager)


def _overwritten(timed: Sequence[WatchedAnswer]) -> Iterator[str]:
    for answer in timed:
        for name in answer.overwritten:
            yield (
                f"{name} of one call is overwritten by the next: a session must return arrays that "
                "it does not use again"
            )


def _hasty(
    timed: Sequence[WatchedAnswer], slow: Sequence[Excerpts], allowed: _Allowance
) -> Iterator[str]:
    """Yield the output that is another if calls come quickly."""
    differences = list(_differences(timed, slow, allowed))
    wrong = [difference for difference in differences if difference]
    if wrong:
        yield (
            f"{len(wrong)} of {len(differences)} answers while timed differ from the session's own "
            f"to the same input without haste: {wrong[0]}"
        )


def _drifted(evidence: TimedEvidence) -> Iterator[str]:
    """Yield the output that is another for a probe than before the timing."""
    reference, typical = evidence.reference, typical_errors(evidence.reference)
    pairs = zip(evidence.before, evidence.after, strict=True)
    for index, (before, after) in enumerate(pairs):
        for name, first in before.items():
            eager, truth = reference.eager[index][name], reference.truth[index][name]
            rounding = error_scale(eager, truth, typical[name])
            difference = _rms_between(after[name], first)
            if not difference <= max(rounding, reference.repeat_error):
                yield (
                    f"{name} at {reference.probes[index].name} differs by {difference:.3g} rms "
                    "from the answer before the timing"
                )


def _unlike_eager(evidence: TimedEvidence, eager: Sequence[Excerpts]) -> Iterator[str]:
    """Yield the output of a lossless artifact that is not eager's in too many answers."""
    noise = (evidence.gates.noise or NOISE_FP32) * EDGE_ALLOWANCE
    allowed = _rounding(evidence.reference, noise)
    differences = list(_differences(evidence.timed, eager, allowed, floats=True))
    wrong = [difference for difference in differences if difference]
    if len(wrong) > max(1.0, STRAY_ANSWERS * len(differences)):
        yield (
            f"{len(wrong)} of {len(differences)} answers while timed differ from eager's: {wrong[0]}"
        )


def _far_from_eager(evidence: TimedEvidence, eager: Sequence[Excerpts]) -> Iterator[str]:
    """Yield the output of a lossy artifact whose SQNR over all timed answers is too low."""
    required = evidence.gates.sqnr_db
    if required is None:
        required = SQNR_DB.get(evidence.precision, -math.inf)
    limit = required - SIZE_ALLOWANCE_DB
    pairs = [
        (answer.outputs, expected) for answer, expected in zip(evidence.timed, eager, strict=False)
    ]
    for name in [name for name, part in eager[0].items() if part.values.dtype.kind == "f"]:
        alike = [pair for pair in pairs if math.isfinite(_between(*pair, name))]
        strays = len(pairs) - len(alike)
        if strays > STRAY_ANSWERS * len(pairs):
            yield (
                f"{strays} of {len(pairs)} answers while timed differ from eager's: {name} is of "
                "another shape or not finite"
            )
            continue
        sqnr = _pooled_sqnr(alike, name)
        if not sqnr >= limit:
            yield (
                f"answers while timed differ from eager's: the SQNR of {name} over {len(alike)} of "
                f"them is {sqnr:.3g} dB, at least {limit:g}"
            )


def _pooled_sqnr(pairs: Sequence[tuple[Excerpts, Excerpts]], name: str) -> float:
    """Return the SQNR in dB of an output over pairs of answers and what they should be."""
    signals, errors = [], []
    for answer, expected in pairs:
        norm = math.sqrt(expected[name].values.size)
        signals.append(norm * _magnitude(expected[name].values))
        errors.append(norm * _between(answer, expected, name))
    signal, error = math.hypot(*signals), math.hypot(*errors)
    return 20 * math.log10(signal / error) if signal and error else math.inf


def _rounding(reference: Reference, units: float) -> _Allowance:
    """Return the allowance of so many units of `noise`: eager's usual rounding error."""
    shares = typical_errors(reference)

    def allowed(name: str, right: Values) -> float:
        rounding = max(shares.get(name, 0.0), ERROR_FLOOR) * _magnitude(right)
        return units * max(rounding, reference.repeat_error)

    return allowed


def _differences(
    timed: Sequence[WatchedAnswer],
    right: Sequence[Excerpts],
    allowed: _Allowance,
    floats: bool = False,
) -> Iterator[str]:
    """Yield for each compared answer the output that differs too much; an empty text if none does.

    Args:
        timed: the answers.
        right: the answers that they should be.
        allowed: the allowed difference of each output.
        floats: leave integers out: a tie may decide them.
    """
    for answer, expected in zip(timed, right, strict=False):
        worst = ""
        for name, part in expected.items():
            if floats and part.values.dtype.kind != "f":
                continue
            difference = _between(answer.outputs, expected, name)
            if not difference <= allowed(name, part.values):
                worst = f"{name} by {difference:.3g} rms"
        yield worst


def _between(answer: Excerpts, expected: Excerpts, name: str) -> float:
    """Return the rms between two excerpts; infinity if the output is of another shape."""
    if name not in answer or answer[name].shape != expected[name].shape:
        return math.inf
    return _rms_between(answer[name].values, expected[name].values)


def _rms_between(values: Values, expected: Values) -> float:
    """Return the rms between two arrays, over the values that are finite in the second."""
    if values.shape != expected.shape:
        return math.inf
    right = np.asarray(expected, np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.where(np.isfinite(right), values - right, 0.0)
    return math.inf if np.isnan(difference).any() else rms(difference)


def _magnitude(values: Values) -> float:
    exact = np.asarray(values, np.float64)
    return rms(np.where(np.isfinite(exact), exact, 0.0))
