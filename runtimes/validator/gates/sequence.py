"""Calls in a row: an artifact that lives on its own state stays near eager's sequence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from runtimes.results import GateResult
from runtimes.validator.defaults import SEQUENCE_SQNR_DB, SQNR_DB
from runtimes.validator.evidence import Evidence
from runtimes.validator.outputs.distance import decibel, rms

Values = np.ndarray[Any, Any]


def sequence(evidence: Evidence) -> Iterator[GateResult]:
    """Yield the worst SQNR of the answers of an artifact that was given its own state each time.

    Errors add up over the calls. Nothing for models whose recipe names no state.
    """
    steps, answers = evidence.reference.steps, evidence.sequence
    if not steps or not answers:
        return
    limit = evidence.gates.sqnr_db
    if limit is None:
        limit = SQNR_DB.get(evidence.manifest.precision, SEQUENCE_SQNR_DB)
    worst, where = math.inf, ""
    for number, (step, outputs) in enumerate(zip(steps, answers, strict=True), 1):
        for name, expected in evidence.reference.eager[step].items():
            actual = outputs.get(name)
            if expected.dtype.kind != "f" or actual is None:
                continue
            if actual.shape != expected.shape:
                detail = f"{name} has shape {list(actual.shape)} after {number} calls"
                detail += f", eager's {list(expected.shape)}"
                yield GateResult(gate="parity", ok=False, detail=detail)
                return
            sqnr = _sqnr(actual, expected)
            if sqnr <= worst:
                worst, where = sqnr, f"{name} after {number} calls"
    if where:
        detail = f"SQNR in dB of {where} on its own state is {worst:.3g}, at least {limit:g}"
        yield GateResult(gate="parity", ok=worst >= limit, detail=detail)


def _sqnr(actual: Values, expected: Values) -> float:
    """Return the SQNR in dB over eager's finite values."""
    finite = np.isfinite(expected)
    error = np.zeros(expected.shape)
    np.subtract(actual, expected, dtype=np.float64, where=finite, out=error)
    return decibel(rms(np.where(finite, expected, 0.0)), rms(error))
