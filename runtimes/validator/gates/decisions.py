"""Gates on a classifier's decisions: agreement with eager, and accuracy on labels.

A recipe's own limit holds if the 95 % interval lies within it, fails if the interval lies beyond it,
and is undecided otherwise: more samples would decide it. A float32 artifact of the same function
needs no interval: its numbers are eager's, which parity proves, so what was measured counts. The
defaults fail what is proven to be
worse, so that few samples fail nothing by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

from runtimes.points import points
from runtimes.results import Accuracy, GateResult
from runtimes.validator.accuracy import is_above_chance, paired_interval, wilson
from runtimes.validator.defaults import (
    LOSSY_ACCURACY_DROP,
    LOSSY_AGREEMENT,
    MOST_SAMPLES,
    PRUNED_ACCURACY_DROP,
    PRUNED_AGREEMENT,
)
from runtimes.validator.evidence import Evidence

Interval = tuple[float, float]

Rule = Literal["written", "proven worse", "measured"]
"""Rule by which a limit is applied: written in the recipe; a default that the interval must lie
beyond to fail; a default on the measured value."""

_ROUNDING = 1e-9
_STEP = 1.25  # between two numbers of samples that are tried


def decisions(evidence: Evidence) -> Iterator[GateResult]:
    """Yield the results of the recipe's limits; a lossy or pruned classifier has one by default."""
    limits, measured = evidence.gates, evidence.parity
    pruned = evidence.reference.original is not None
    written: Rule = "measured" if evidence.lossless and not pruned else "written"
    if limits.top1_agreement is not None:
        yield _agreement(evidence, measured.top1_agreement, limits.top1_agreement, written)
    if limits.accuracy_drop is not None:
        yield _accuracy(measured.accuracy, limits.accuracy_drop, written)
    if {"top1_agreement", "accuracy_drop"} & limits.model_fields_set:
        return
    if evidence.reference.synthetic or (evidence.lossless and not pruned):
        return  # noise has no classes to lose, and parity judges float32
    rule: Rule = "measured" if pruned else "proven worse"
    if measured.accuracy is not None and is_above_chance(measured.accuracy):
        limit = PRUNED_ACCURACY_DROP if pruned else LOSSY_ACCURACY_DROP
        yield _accuracy(measured.accuracy, limit, rule)
    elif measured.top1_agreement is not None:
        limit = PRUNED_AGREEMENT if pruned else LOSSY_AGREEMENT
        yield _agreement(evidence, measured.top1_agreement, limit, rule)


def decide_loss(value: float, interval: Interval, limit: float, rule: Rule) -> bool | None:
    """Return whether a loss is within its limit; None if the samples leave that open.

    Args:
        value: measured loss, as a share.
        interval: of the loss, 95 %.
        limit: largest loss. No number of samples proves that there is none at all: a written limit
            of 0 is one on the measured value.
        rule: by which the limit is applied.
    """
    low, high = interval
    if rule == "measured" or limit <= _ROUNDING:
        return value <= limit + _ROUNDING
    if rule == "proven worse":
        return low <= limit + _ROUNDING
    if high <= limit + _ROUNDING:
        return True
    return False if low > limit + _ROUNDING else None


def samples_needed(samples: int, decided: Callable[[float], bool]) -> int | None:
    """Return about how many samples would decide a limit, at the same rates; None if too many.

    `decided`: returns whether so many times the samples would do.
    """
    factor = 1.0
    while samples * factor <= MOST_SAMPLES:
        if decided(factor):
            return _rounded_up(samples * factor)
        factor *= _STEP
    return None


def _rounded_up(number: float) -> int:
    """Return a number with two digits that is not smaller."""
    unit: int = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return math.ceil(number / unit) * unit


def _agreement(evidence: Evidence, share: float | None, limit: float, rule: Rule) -> GateResult:
    """Check the share of samples with eager's class."""
    samples = evidence.parity.samples
    baseline = " with the model before its passes" if evidence.reference.original else ""
    name = f"top-1 agreement{baseline} over {samples} samples"
    if share is None or not samples:
        return _result(False, f"{name} is none, at least {_percent(limit)}")
    low, high = wilson(share, samples)
    detail = f"{name} is {share:.1%} (95 %: {low:.1%} to {high:.1%}), at least {_percent(limit)}"

    def decide(factor: float) -> bool | None:
        best, worst = wilson(share, samples * factor)
        return decide_loss(1 - share, (1 - worst, 1 - best), 1 - limit, rule)

    return _result(decide(1.0), detail, samples, lambda factor: decide(factor) is not None)


_LABELS = (
    "labels of this model's classes, in their order, and of more than one class would decide it"
)


def _accuracy(accuracy: Accuracy | None, limit: float, rule: Rule) -> GateResult:
    """Check the drop of accuracy."""
    if accuracy is None:
        detail = "accuracy_drop is required, but no probe has labels: add `labels:` to `data:`"
        return _result(False, detail)
    low, high = accuracy.ci95
    detail = (
        f"accuracy {accuracy.artifact:.1%}, eager's {accuracy.eager:.1%}: drop "
        f"{points(accuracy.drop)} on {accuracy.samples} samples (95 %: {100 * low:.3g} to "
        f"{points(high)}), at most {points(limit)}"
    )

    def decide(interval: Interval) -> bool | None:
        return decide_loss(accuracy.drop, interval, limit, rule)

    def decided(factor: float) -> bool:
        counts = accuracy.lost * factor, accuracy.won * factor
        return decide(paired_interval(*counts, accuracy.samples * factor)) is not None

    if rule == "written" and not is_above_chance(accuracy):
        detail += (
            f"; eager's is no more than chance ({accuracy.chance:.1%}), so its loss shows nothing"
        )
        return GateResult(gate="parity", ok=None, detail=detail, remedy=_LABELS)
    holds = decide(accuracy.ci95)
    if holds and high > limit:
        detail += "; too few samples to prove it"
    return _result(holds, detail, accuracy.samples, decided)


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def _result(
    holds: bool | None,
    detail: str,
    samples: int = 0,
    decided: Callable[[float], bool] = lambda factor: True,
) -> GateResult:
    if holds is not None:
        return GateResult(gate="parity", ok=holds, detail=detail)
    needed = samples_needed(samples, decided)
    remedy = "it is too near to the limit for any number of samples"
    if needed is not None:
        remedy = f"about {needed:,} samples may decide it (`samples:` of data.evaluation)"
    return GateResult(gate="parity", ok=None, detail=detail, remedy=remedy)
