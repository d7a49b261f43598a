"""Parity: an artifact's error against the float64 truth, in units of eager's own rounding error.

Method: PyTorch's compiler benchmarks judge the same way (`torch._dynamo.utils.same` with an fp64 golden
output and a ratio of RMSEs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from runtimes.results import OutputParity, Parity
from runtimes.spec import Arrays
from runtimes.validator.agreement import agreement
from runtimes.validator.defaults import ERROR_FLOOR
from runtimes.validator.reference import Reference

_SQNR_LIMIT_DB = 400.0  # stands for "no error at all" in a file format without infinity


@dataclass(frozen=True)
class Distance:
    """One output of one probe.

    noise: rmse ratio to eager's error; sqnr_db; cosine; max_abs with its index; not_finite: values that are
    NaN or Inf where eager's are finite; signal, error: Euclidean norms of the truth and of the difference. Where
    eager itself is not finite, nothing is compared.
    """

    probe: str
    kind: str
    output: str
    noise: float
    sqnr_db: float
    cosine: float
    max_abs: float
    index: tuple[int, ...]
    not_finite: int
    signal: float = 0.0
    error: float = 0.0


def rms(values: np.ndarray[Any, Any]) -> float:
    """Root mean square, computed without overflow in float64."""
    if not values.size:
        return 0.0
    peak = float(np.max(np.abs(values)))
    if not peak or not math.isfinite(peak):
        return peak
    return peak * math.sqrt(float(np.mean(np.square(values / peak))))


def error_scale(eager: np.ndarray[Any, Any], truth: np.ndarray[Any, Any], typical: float = 0.0) -> float:
    """The unit of `noise`: eager's own rms error on an output.

    At least `typical` (see `typical_errors`) and what float32 cannot resolve, as shares of the truth's rms: on
    one probe eager may be right by luck, and nobody can be asked for that. Where one of the two is not finite
    (a mask of -Inf in the logits, say), nothing is counted.
    """
    own, exact = np.asarray(eager, np.float64), np.asarray(truth, np.float64)
    both = np.isfinite(own) & np.isfinite(exact)
    own, exact = np.where(both, own, 0.0), np.where(both, exact, 0.0)
    return max(rms(own - exact), max(typical, ERROR_FLOOR) * rms(exact)) or ERROR_FLOOR


def typical_errors(reference: Reference) -> dict[str, float]:
    """Per output, eager's error as a share of the truth's rms: the median over the probes that are no edge values.

    Edge values and single probes do not count: on a picture of zeros a float32 model may lose all but two digits,
    and a unit of that size would hide any fault.
    """
    shares: dict[str, list[float]] = {name: [] for name in reference.truth[0]}
    for probe, eager, truth in zip(reference.probes, reference.eager, reference.truth, strict=True):
        for name, exact in truth.items() if probe.kind != "edge" else ():
            if signal := rms(np.where(np.isfinite(exact), exact, 0.0)):
                shares[name].append(error_scale(eager[name], exact) / signal)
    return {name: float(np.median(values)) if values else 0.0 for name, values in shares.items()}


def distance(
    probe: str,
    output: str,
    found: np.ndarray[Any, Any],
    eager: np.ndarray[Any, Any],
    truth: np.ndarray[Any, Any],
    kind: str = "noise",
    typical: float = 0.0,
) -> Distance:
    """Compare one output with the truth. All three have one shape; integers and booleans count as numbers.

    `typical` is eager's usual error, as in `error_scale`.
    """
    comparable = np.isfinite(np.asarray(eager, np.float64)) & np.isfinite(np.asarray(truth, np.float64))
    got, own, exact = (np.where(comparable, np.asarray(a, np.float64), 0.0) for a in (found, eager, truth))
    with np.errstate(invalid="ignore", over="ignore"):
        error = got - exact
    wrong, signal = rms(error), rms(exact)
    size = np.abs(error)
    worst = int(np.argmax(np.where(np.isnan(size), np.inf, size))) if size.size else 0
    return Distance(
        probe,
        kind,
        output,
        noise=wrong / error_scale(own, exact, typical),
        signal=signal * math.sqrt(exact.size),
        error=wrong * math.sqrt(exact.size),
        sqnr_db=_decibel(signal, wrong),
        cosine=_cosine(got, exact),
        max_abs=float(size.flat[worst]) if size.size else 0.0,
        index=tuple(int(i) for i in np.unravel_index(worst, size.shape)) if size.size else (),
        not_finite=int(np.sum(~np.isfinite(got))),
    )


def _cosine(found: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    scale = rms(found) * rms(truth) * found.size
    if not scale or not math.isfinite(scale):
        return 1.0 if np.array_equal(found, truth) else 0.0
    return float(np.vdot(found, truth)) / scale


def _decibel(signal: float, error: float) -> float:
    if math.isnan(error) or math.isinf(error):
        return -_SQNR_LIMIT_DB
    if not error:
        return _SQNR_LIMIT_DB
    if not signal:
        return -_SQNR_LIMIT_DB
    return max(-_SQNR_LIMIT_DB, min(_SQNR_LIMIT_DB, 20 * math.log10(signal / error)))


def distances(found: Sequence[Arrays], reference: Reference, edges: bool = True) -> list[Distance]:
    """Every output of every probe; without `edges`, of those that lossy artifacts are judged on."""
    typical = typical_errors(reference)
    return [
        distance(probe.name, name, outputs[name], eager[name], truth[name], probe.kind, typical[name])
        for probe, outputs, eager, truth in zip(
            reference.probes, found, reference.eager, reference.truth, strict=True
        )
        if edges or probe.kind != "edge"
        for name in truth
    ]


def summarize(found: Sequence[Arrays], reference: Reference, classification: bool, lossless: bool = True) -> Parity:
    """The worst of all distances, as build.json tells it; values that are not finite become null.

    The SQNR of a lossy artifact is that of all its samples together, and of each other size by itself: of four
    hundred photographs the worst is an outlier, not the artifact's precision.

    Edge values have a noise of their own: on a constant picture rounding errors add up instead of averaging
    out. A lossy artifact is not judged on them at all: what float16 or int8 does to a thousand times the usual
    input is its nature, not a fault.
    """
    compared = distances(found, reference, edges=lossless)
    every = [one for one in compared if one.kind != "edge"]
    worst = _worst(every)
    edge = _worst(edges) if (edges := [one for one in compared if one.kind == "edge"]) else None
    classes = agreement(found, reference) if classification else None
    return Parity(
        noise=_finite(worst.noise),
        sqnr_db=min(_sqnr([one for one in every if one.output == name], lossless) for name in reference.truth[0]),
        max_abs=_finite(float(np.max([one.max_abs for one in every]))),  # max() may lose a NaN
        top1_agreement=classes.top1 if classes else None,
        top5_agreement=classes.top5 if classes else None,
        kl=_finite(classes.kl) if classes else None,
        samples=classes.samples if classes else _samples(reference),
        where=f"{worst.output} at {worst.probe}",
        edge_noise=_finite(edge.noise) if edge else None,
        edge_where=f"{edge.output} at {edge.probe}" if edge else None,
        outputs=[
            _output(name, [one for one in every if one.output == name], lossless) for name in reference.truth[0]
        ],
        accuracy=classes.accuracy if classes else None,
        original_sqnr_db=from_original(found, reference),
    )


def from_original(found: Sequence[Arrays], reference: Reference) -> float | None:
    """SQNR in dB against the model before passes changed it, over all samples together; the worst output's."""
    if reference.original is None:
        return None
    plain = replace(reference, eager=reference.original, truth=reference.original, original=None)
    every = [one for one in distances(found, plain, edges=False) if one.kind in ("data", "noise")]
    return min(_sqnr([one for one in every if one.output == name], False) for name in reference.truth[0])


def _worst(every: Sequence[Distance]) -> Distance:
    return max(every, key=lambda one: one.noise if math.isfinite(one.noise) else math.inf)


def _sqnr(every: Sequence[Distance], lossless: bool) -> float:
    """Of one output: the worst probe's; for a lossy artifact the samples count as one."""
    if lossless:
        return min(one.sqnr_db for one in every)
    samples = [one for one in every if one.kind in ("data", "noise")]
    together = _decibel(math.hypot(*(one.signal for one in samples)), math.hypot(*(one.error for one in samples)))
    return min([together, *(one.sqnr_db for one in every if one not in samples)])


def _output(name: str, every: Sequence[Distance], lossless: bool) -> OutputParity:
    far = max(every, key=lambda one: one.max_abs if math.isfinite(one.max_abs) else math.inf)
    return OutputParity(
        name=name,
        noise=_finite(float(np.max([one.noise for one in every]))),
        sqnr_db=_sqnr(every, lossless),
        cosine=_finite(float(np.min([one.cosine for one in every]))),
        max_abs=_finite(far.max_abs),
        max_abs_at=f"{far.probe}, index {list(far.index)}",
        not_finite=sum(one.not_finite for one in every),
    )


def _samples(reference: Reference) -> int:
    firsts = [next(iter(outputs.values())) for outputs in reference.eager]
    return sum(len(first) if first.ndim else 1 for first in firsts)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
