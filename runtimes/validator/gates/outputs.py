"""Gates of single outputs: the recipe's own, and those of whole numbers in lossy artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from runtimes.artifact.gates import Gates
from runtimes.results import GateResult, OutputParity
from runtimes.spec import Arrays
from runtimes.validator.defaults import LOSSY_EQUAL, LOSSY_EQUAL_ON_NOISE
from runtimes.validator.evidence import Evidence
from runtimes.validator.outputs.numbers import equal
from runtimes.validator.parity import summarize
from runtimes.validator.reference import Reference


def without(answers: Sequence[Arrays], names: Sequence[str]) -> list[Arrays]:
    """Return sets of outputs without some of them."""
    return [
        {name: array for name, array in outputs.items() if name not in names} for outputs in answers
    ]


def judged_outputs(reference: Reference, names: Sequence[str]) -> Reference:
    """Return a reference without some of its outputs."""
    if not names:
        return reference
    original = reference.original
    return replace(
        reference,
        eager=without(reference.eager, names),
        truth=without(reference.truth, names),
        original=None if original is None else without(original, names),
    )


def apart_from(evidence: Evidence, names: Sequence[str]) -> Evidence:
    """Return the evidence on the other outputs."""
    if not names:
        return evidence
    reference, first = judged_outputs(evidence.reference, names), without(evidence.first, names)
    parity = evidence.parity
    if reference.eager[0]:
        parity = summarize(first, reference, classification=False, lossless=evidence.lossless)
    return replace(evidence, reference=reference, first=first, parity=parity)


def own_limits(limits: Gates, measured: Sequence[OutputParity]) -> Iterator[GateResult]:
    """Yield a result for each limit that the recipe sets on a single output."""
    for output in measured:
        gates = limits.outputs.get(output.name)
        for measure, limit in gates.limits.items() if gates else ():
            value = getattr(output, measure)
            at_least = measure == "sqnr_db"
            holds = value is not None and (value >= limit if at_least else value <= limit)
            bound = "at least" if at_least else "at most"
            actual = "none" if value is None else f"{value:.3g}"
            detail = f"{measure} of {output.name} is {actual}, {bound} {limit:g}"
            yield GateResult(gate="parity", ok=holds, detail=detail)


def equal_shares(
    answers: Sequence[Arrays], reference: Reference, names: Sequence[str]
) -> Iterator[GateResult]:
    """Yield, for outputs of whole numbers of a lossy artifact, the share that equals eager's."""
    limit = LOSSY_EQUAL_ON_NOISE if reference.synthetic else LOSSY_EQUAL
    for name in names:
        right = total = 0
        for probe, outputs, eager in zip(reference.probes, answers, reference.eager, strict=True):
            if probe.sample:
                right += int(np.sum(equal(outputs[name], eager[name])))
                total += eager[name].size
        share = right / total if total else 1.0
        detail = f"{share:.1%} of {name} equals eager's, at least {limit:.0%}"
        yield GateResult(gate="parity", ok=share >= limit, detail=detail)
