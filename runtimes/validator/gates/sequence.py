"""Calls in a row: an artifact that lives on its own state stays near eager's sequence."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from runtimes.results import GateResult
from runtimes.validator.defaults import SEQUENCE_SQNR_DB, SQNR_DB
from runtimes.validator.evidence import Evidence
from runtimes.validator.outputs.distance import decibel, rms


def sequence(evidence: Evidence) -> Iterator[GateResult]:
    """Yield the SQNR of the last answers of an artifact that was given its own state each time.

    Errors add up over the calls. Nothing for models whose recipe names no state.
    """
    steps, answers = evidence.reference.steps, evidence.sequence
    if not steps or not answers:
        return
    limit = evidence.gates.sqnr_db
    if limit is None:
        limit = SQNR_DB.get(evidence.manifest.precision, SEQUENCE_SQNR_DB)
    last = evidence.reference.eager[steps[-1]]
    worst, where = math.inf, ""
    for name, expected in last.items():
        actual = answers[-1].get(name)
        if expected.dtype.kind != "f" or actual is None:
            continue
        if actual.shape != expected.shape:
            detail = f"{name} has shape {list(actual.shape)} after {len(steps)} calls"
            yield GateResult(
                gate="parity", ok=False, detail=f"{detail}, eager's {list(expected.shape)}"
            )
            return
        finite = np.isfinite(expected)
        error = np.subtract(
            actual, expected, dtype=np.float64, where=finite, out=np.zeros(expected.shape)
        )
        sqnr = decibel(rms(np.where(finite, expected, 0.0)), rms(error))
        if sqnr <= worst:
            worst, where = sqnr, name
    if where:
        detail = f"SQNR in dB of {where} after {len(steps)} calls on its own state is {worst:.3g}"
        yield GateResult(gate="parity", ok=worst >= limit, detail=f"{detail}, at least {limit:g}")
