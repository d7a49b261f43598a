"""Calls in a row: an artifact that lives on its own state stays near eager's sequence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from runtimes.results import GateResult
from runtimes.validator.defaults import SEQUENCE_SQNR_DB, SQNR_DB
from runtimes.validator.evidence import Evidence
from runtimes.validator.outputs.distance import rms


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
        decibel = _decibel(np.asarray(actual, np.float64), np.asarray(expected, np.float64))
        if decibel <= worst:
            worst, where = decibel, name
    if where:
        detail = f"SQNR in dB of {where} after {len(steps)} calls on its own state is {worst:.3g}"
        yield GateResult(gate="parity", ok=worst >= limit, detail=f"{detail}, at least {limit:g}")


def _decibel(actual: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    finite = np.isfinite(expected)
    error = rms(np.where(finite, actual - np.where(finite, expected, 0.0), 0.0))
    signal = rms(np.where(finite, expected, 0.0))
    if not error:
        return math.inf
    return 20 * math.log10(signal / error) if signal and math.isfinite(error) else -math.inf
