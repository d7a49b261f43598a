"""Lossy artifacts on unusual values of an ordinary size: all negative, zeros, one constant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from runtimes.results import GateResult
from runtimes.spec import Arrays
from runtimes.validator.defaults import UNUSUAL_ERROR
from runtimes.validator.outputs.distance import rms
from runtimes.validator.reference import Reference

_REGIONS = ("edge zeros", "edge negative", "edge constant")


def on_unusual_values(
    answers: Sequence[Arrays], reference: Reference, precision: str
) -> Iterator[GateResult]:
    """Yield the largest error in such a region, as a share of the output's magnitude.

    The magnitude is that in the region, or the usual one if that is larger: calibration may never
    have seen such values, so only an error of the answer's own size is a fault.
    """
    limit = UNUSUAL_ERROR.get(precision)
    if limit is None:
        return
    usual = {name: _usual(name, reference) for name in reference.truth[0]}
    largest, where = 0.0, ""
    for probe, outputs, truth in zip(reference.probes, answers, reference.truth, strict=True):
        if probe.name not in _REGIONS:
            continue
        for name, exact in truth.items():
            finite = np.isfinite(exact)
            if exact.dtype.kind != "f" or not finite.any():
                continue
            error = rms(np.asarray(outputs[name], np.float64)[finite] - exact[finite])
            magnitude = max(rms(exact[finite]), usual[name])
            if magnitude and error / magnitude > largest:
                largest, where = error / magnitude, f"{name} at {probe.name}"
    if where:
        detail = f"error of {where} is {largest:.3g} of its magnitude, at most {limit:g}"
        yield GateResult(gate="parity", ok=largest <= limit, detail=detail)


def _usual(name: str, reference: Reference) -> float:
    magnitudes = []
    for probe, truth in zip(reference.probes, reference.truth, strict=True):
        if probe.sample and truth[name].dtype.kind == "f":
            magnitudes.append(rms(np.where(np.isfinite(truth[name]), truth[name], 0.0)))
    return float(np.median(magnitudes)) if magnitudes else 0.0
