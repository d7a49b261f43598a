"""Gates on a classifier's decisions: agreement with eager, and accuracy on labels.

The recipe's limits hold for the measured value. The defaults fail what is proven to be worse: the
95 % interval lies beyond the limit, so that few samples fail nothing by chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from runtimes.results import Accuracy, GateResult
from runtimes.validator.defaults import (
    LOSSY_ACCURACY_DROP,
    LOSSY_AGREEMENT,
    PRUNED_ACCURACY_DROP,
    PRUNED_AGREEMENT,
)
from runtimes.validator.evidence import Evidence

_Z95 = 1.959964  # of the normal distribution, two-sided 95 %


def decisions(evidence: Evidence) -> Iterator[GateResult]:
    """Yield the results of the recipe's limits; a lossy or pruned classifier has one by default."""
    limits, measured = evidence.gates, evidence.parity
    if limits.top1_agreement is not None:
        yield _agreement(evidence, measured.top1_agreement, limits.top1_agreement, proven=False)
    if limits.accuracy_drop is not None:
        yield _accuracy(measured.accuracy, limits.accuracy_drop, proven=False)
    if {"top1_agreement", "accuracy_drop"} & limits.model_fields_set:
        return
    pruned = evidence.reference.original is not None
    if evidence.reference.synthetic or (evidence.lossless and not pruned):
        return  # noise has no classes to lose, and parity judges float32
    if measured.accuracy is not None:
        limit = PRUNED_ACCURACY_DROP if pruned else LOSSY_ACCURACY_DROP
        yield _accuracy(measured.accuracy, limit, proven=not pruned)
    elif measured.top1_agreement is not None:
        limit = PRUNED_AGREEMENT if pruned else LOSSY_AGREEMENT
        yield _agreement(evidence, measured.top1_agreement, limit, proven=not pruned)


def _agreement(evidence: Evidence, share: float | None, limit: float, proven: bool) -> GateResult:
    """Check the share of samples with eager's class; `proven`: fail only below its interval."""
    samples = evidence.parity.samples
    baseline = " with the model before its passes" if evidence.reference.original else ""
    name = f"top-1 agreement{baseline} over {samples} samples"
    if share is None or not samples:
        return _result(False, f"{name} is none, at least {limit:g}")
    low, high = wilson(share, samples)
    interval = f" (95 %: {low:.1%} to {high:.1%})"
    holds = (high if proven else share) >= limit
    return _result(holds, f"{name} is {share:.3g}{interval}, at least {limit:g}")


def wilson(share: float, samples: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of so many samples (JASA, 1927)."""
    square = _Z95**2 / samples
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def _accuracy(accuracy: Accuracy | None, limit: float, proven: bool) -> GateResult:
    """Check the drop of accuracy; `proven`: fail only if its interval lies beyond the limit."""
    if accuracy is None:
        detail = "accuracy_drop is required, but no probe has labels: add `labels:` to `data:`"
        return _result(False, detail)
    low, high = accuracy.ci95
    detail = (
        f"accuracy {accuracy.artifact:.1%}, eager's {accuracy.eager:.1%}: drop {accuracy.drop:.1%} "
        f"on {accuracy.samples} samples (95 %: {low:.1%} to {high:.1%}), at most {limit:.1%}"
    )
    holds = (low if proven else accuracy.drop) <= limit
    if holds and high > limit:
        detail += "; too few samples to prove it"
    return _result(holds, detail)


def _result(holds: bool, detail: str) -> GateResult:
    return GateResult(gate="parity", ok=holds, detail=detail)
