"""Parity: all distances of an artifact's outputs from the truth, summarized."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from runtimes.results import OutputParity, Parity
from runtimes.spec import Arrays
from runtimes.validator.agreement import agreement
from runtimes.validator.defaults import SIZE_ALLOWANCE_DB
from runtimes.validator.outputs.distance import Distance, decibel, measure_distances
from runtimes.validator.reference import Reference


def summarize(
    answers: Sequence[Arrays],
    reference: Reference,
    classification: bool,
    lossless: bool = True,
) -> Parity:
    """Summarize all distances by the worst one, as build.json reports it.

    Values that are not finite become null.

    The SQNR of a lossy artifact is that of all its samples together: the worst of four hundred
    photographs is an outlier, not the artifact's precision. Another size counts if it is far worse.

    Edge values have a noise of their own: on a constant picture rounding errors add up instead of
    averaging out. A lossy artifact is not judged on them at all: an error of float16 or int8 on a
    thousand times the usual input is to be expected, and is no fault.
    """
    distances = measure_distances(answers, reference, edges=lossless)
    edges = [distance for distance in distances if distance.kind in ("edge", "nan")]
    judged = [distance for distance in distances if distance.kind not in ("edge", "nan")]
    worst = _worst(judged)
    worst_edge = _worst(edges) if edges else None
    classes = agreement(answers, reference) if classification else None
    by_output = _by_output(judged, reference)
    return Parity(
        noise=_finite(worst.noise),
        sqnr_db=_lowest_sqnr(by_output if lossless else _signals(by_output, reference), lossless),
        max_abs=_finite(
            float(np.max([distance.max_abs for distance in judged]))
        ),  # max() may lose a NaN
        top1_agreement=classes.top1 if classes else None,
        top5_agreement=classes.top5 if classes else None,
        kl=_finite(classes.kl) if classes else None,
        samples=classes.samples if classes else _samples(reference),
        where=f"{worst.output} at {worst.probe}",
        edge_noise=_finite(worst_edge.noise) if worst_edge else None,
        edge_where=f"{worst_edge.output} at {worst_edge.probe}" if worst_edge else None,
        outputs=[_output(name, group, lossless) for name, group in by_output.items()],
        accuracy=classes.accuracy if classes else None,
        original_sqnr_db=sqnr_from_original(answers, reference),
    )


def sqnr_from_original(answers: Sequence[Arrays], reference: Reference) -> float | None:
    """Return the worst output's SQNR in dB against the model before its passes, over all samples.

    None if no pass changed the model.
    """
    if reference.original is None:
        return None
    before = replace(reference, eager=reference.original, truth=reference.original, original=None)
    distances = _samples_only(measure_distances(answers, before, edges=False))
    return _lowest_sqnr(_by_output(distances, reference), lossless=False)


def _by_output(distances: Sequence[Distance], reference: Reference) -> dict[str, list[Distance]]:
    groups: dict[str, list[Distance]] = {name: [] for name in reference.truth[0]}
    for distance in distances:
        groups[distance.output].append(distance)
    return groups


def _samples_only(distances: Sequence[Distance]) -> list[Distance]:
    return [distance for distance in distances if distance.kind in ("data", "noise")]


def _worst(distances: Sequence[Distance]) -> Distance:
    return max(distances, key=lambda distance: _nan_as_inf(distance.noise))


def _signals(
    by_output: dict[str, list[Distance]], reference: Reference
) -> dict[str, list[Distance]]:
    """Return the outputs of floats: an SQNR of indices means nothing. All if there are no floats."""
    kinds = {name: array.dtype.kind for name, array in reference.eager[0].items()}
    floats = {name: group for name, group in by_output.items() if kinds[name] == "f"}
    return floats or by_output


def _lowest_sqnr(by_output: dict[str, list[Distance]], lossless: bool) -> float:
    return min(_sqnr(group, lossless) for group in by_output.values())


def _sqnr(distances: Sequence[Distance], lossless: bool) -> float:
    """Return the SQNR of one output: its worst probe's; a lossy artifact's samples count as one.

    A probe at another size has few rows, and no more to show than one of the samples: it counts if
    it is worse than all of them together by more than SIZE_ALLOWANCE_DB.
    """
    if lossless:
        return min(distance.sqnr_db for distance in distances)
    samples = _samples_only(distances)
    signal = math.hypot(*(sample.signal for sample in samples))
    error = math.hypot(*(sample.error for sample in samples))
    pooled = decibel(signal, error)
    resized = [distance.sqnr_db for distance in distances if distance.kind in ("size", "ids")]
    return min([pooled, *(sqnr for sqnr in resized if sqnr < pooled - SIZE_ALLOWANCE_DB)])


def _output(name: str, distances: Sequence[Distance], lossless: bool) -> OutputParity:
    farthest = max(distances, key=lambda distance: _nan_as_inf(distance.max_abs))
    return OutputParity(
        name=name,
        noise=_finite(float(np.max([distance.noise for distance in distances]))),
        sqnr_db=_sqnr(distances, lossless),
        cosine=_finite(float(np.min([distance.cosine for distance in distances]))),
        max_abs=_finite(farthest.max_abs),
        max_abs_at=f"{farthest.probe}, index {list(farthest.index)}",
        not_finite=sum(distance.not_finite for distance in distances),
    )


def _nan_as_inf(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _samples(reference: Reference) -> int:
    """Count the samples: batches at other sizes repeat them."""
    count = 0
    for probe, outputs in zip(reference.probes, reference.eager, strict=True):
        if not probe.sample:
            continue
        first = next(iter(outputs.values()))
        count += len(first) if first.ndim else 1
    return count


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
