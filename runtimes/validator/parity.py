"""Parity: an artifact's error against the float64 truth, in units of eager's own rounding error.

Method: PyTorch's compiler benchmarks judge the same way (`torch._dynamo.utils.same` with an fp64 golden
output and a ratio of RMSEs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.results import Parity
from runtimes.spec import Arrays
from runtimes.validator.defaults import ERROR_FLOOR
from runtimes.validator.reference import Reference

_SQNR_LIMIT_DB = 400.0  # stands for "no error at all" in a file format without infinity


@dataclass(frozen=True)
class Distance:
    """One output of one probe: rmse ratio to eager's error, SQNR in dB, largest absolute error."""

    probe: str
    output: str
    noise: float
    sqnr_db: float
    max_abs: float


def rms(values: np.ndarray[Any, Any]) -> float:
    """Root mean square, computed without overflow in float64."""
    if not values.size:
        return 0.0
    peak = float(np.max(np.abs(values)))
    if not peak or not math.isfinite(peak):
        return peak
    return peak * math.sqrt(float(np.mean(np.square(values / peak))))


def distance(
    probe: str,
    output: str,
    found: np.ndarray[Any, Any],
    eager: np.ndarray[Any, Any],
    truth: np.ndarray[Any, Any],
) -> Distance:
    """Compare one output with the truth. All three have one shape; integers and booleans count as numbers."""
    exact = np.asarray(truth, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.asarray(found, np.float64) - exact
        own = np.asarray(eager, np.float64) - exact
    signal, wrong = rms(exact), rms(error)
    floor = ERROR_FLOOR * signal or ERROR_FLOOR
    return Distance(
        probe,
        output,
        noise=wrong / max(rms(own), floor),
        sqnr_db=_decibel(signal, wrong),
        max_abs=float(np.max(np.abs(error), initial=0.0)),
    )


def _decibel(signal: float, error: float) -> float:
    if math.isnan(error) or math.isinf(error):
        return -_SQNR_LIMIT_DB
    if not error:
        return _SQNR_LIMIT_DB
    if not signal:
        return -_SQNR_LIMIT_DB
    return max(-_SQNR_LIMIT_DB, min(_SQNR_LIMIT_DB, 20 * math.log10(signal / error)))


def distances(found: Sequence[Arrays], reference: Reference) -> list[Distance]:
    """Every output of every probe."""
    return [
        distance(probe.name, name, outputs[name], eager[name], truth[name])
        for probe, outputs, eager, truth in zip(
            reference.probes, found, reference.eager, reference.truth, strict=True
        )
        for name in truth
    ]


def top1_agreement(found: Sequence[Arrays], reference: Reference) -> tuple[float, int]:
    """Share of samples whose largest value (over the last axis, first output) is where eager's is."""
    name = next(iter(reference.eager[0]))
    mine = np.concatenate([outputs[name].reshape(-1, outputs[name].shape[-1]).argmax(-1) for outputs in found])
    theirs = np.concatenate(
        [outputs[name].reshape(-1, outputs[name].shape[-1]).argmax(-1) for outputs in reference.eager]
    )
    return float(np.mean(mine == theirs)), len(mine)


def summarize(found: Sequence[Arrays], reference: Reference, classification: bool) -> Parity:
    """The worst of all distances, as build.json tells it; values that are not finite become null."""
    every = distances(found, reference)
    worst = max(every, key=lambda one: one.noise if math.isfinite(one.noise) else math.inf)
    agreement, samples = top1_agreement(found, reference) if classification else (None, _samples(reference))
    return Parity(
        noise=_finite(worst.noise),
        sqnr_db=min(one.sqnr_db for one in every),
        max_abs=_finite(float(np.max([one.max_abs for one in every]))),  # max() may lose a NaN
        top1_agreement=agreement,
        samples=samples,
        where=f"{worst.output} at {worst.probe}",
    )


def _samples(reference: Reference) -> int:
    return sum(len(next(iter(outputs.values()))) if next(iter(outputs.values())).ndim else 1
               for outputs in reference.eager)  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
