"""Outputs in an order (top-k, sort, detections): compared by what they select, not by their place.

Which of two equal scores comes first is no property of a model: rounding decides. So rows whose
scores are tied, within the error that parity allows, are matched to eager's by their content. In the
last tie of an output that was cut off (the best five of fifty), another member of the tie is as
right as eager's. Everywhere else the place counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from runtimes.spec import Arrays
from runtimes.validator.defaults import NOISE_FP32
from runtimes.validator.outputs.distance import error_scale, rms, typical_errors
from runtimes.validator.reference import Reference

Values = np.ndarray[Any, Any]
_OTHER_ROW = 0.05  # distance, in units of an output's magnitude, beyond which two rows differ


@dataclass(frozen=True)
class Ranking:
    """Outputs that are sorted together.

    Attributes:
        key: the output of scores, sorted along its last axis.
        members: all outputs whose shape begins with that of the key.
        descending: whether the largest score comes first.
    """

    key: str
    members: tuple[str, ...]
    descending: bool


def rankings(reference: Reference) -> list[Ranking]:
    """Return the rankings among a model's outputs.

    A ranking is a floating-point output that eager sorts on every ordinary probe, with at least one
    other output of its rows.
    """
    ranked: list[Ranking] = []
    placed: set[str] = set()
    for name in reference.eager[0]:
        members = _same_rows(name, reference)
        if name in placed or len(members) < 2:
            continue
        for descending in (True, False):
            if _is_sorted(name, reference, descending):
                ranked.append(Ranking(name, members, descending))
                placed.update(members)
                break
    return ranked


def ranked_axes(reference: Reference) -> dict[str, int]:
    """Return the axis, after the first, along which an output is sorted by a score."""
    axes = {}
    for ranking in rankings(reference):
        axis = reference.truth[0][ranking.key].ndim - 2
        axes.update(dict.fromkeys(ranking.members, axis))
    return axes


def _same_rows(key: str, reference: Reference) -> tuple[str, ...]:
    """Return the outputs whose shapes begin with the key's on every probe."""
    members = []
    for name in reference.eager[0]:
        shapes = [(outputs[key].shape, outputs[name].shape) for outputs in reference.eager]
        if all(len(rows) > 0 and shape[: len(rows)] == rows for rows, shape in shapes):
            members.append(name)
    return tuple(members)


def _is_sorted(name: str, reference: Reference, descending: bool) -> bool:
    varies = False
    for probe, outputs in zip(reference.probes, reference.eager, strict=True):
        scores = outputs[name]
        if scores.dtype.kind != "f":
            return False
        if not probe.ordinary or scores.shape[-1] < 2:
            continue
        with np.errstate(invalid="ignore"):  # of two infinite scores
            steps = np.diff(scores, axis=-1)
        if not (steps <= 0 if descending else steps >= 0).all():
            return False
        varies |= bool((steps != 0).any())
    return varies


def in_eagers_order(
    outputs: Arrays, eager: Arrays, ranking: Ranking, tolerance: float, cut: bool = False
) -> Arrays:
    """Return outputs with the rows of tied scores in eager's order.

    Args:
        outputs: those of an artifact (or the truth) on one probe, of eager's shapes.
        eager: eager's outputs on that probe.
        ranking: which outputs are sorted together.
        tolerance: scores that differ by no more are tied.
        cut: the probe is an unusual one. The last row may be tied with one that was cut off, though
            none before it is, and rows may repeat.
    """
    scores = eager[ranking.key]
    width = scores.shape[-1]
    matched = {name: np.array(outputs[name]) for name in ranking.members}
    rows = {name: _rows(matched[name], scores.ndim) for name in ranking.members}
    expected = {name: _rows(eager[name], scores.ndim) for name in ranking.members}
    scales = {name: _scale(eager[name]) for name in ranking.members}
    for row, ranked in enumerate(scores.reshape(-1, width)):
        ties = _ties(ranked, tolerance)
        if cut and (not ties or ties[-1][1] < width):
            ties.append((width - 1, width))
        for first, last in ties:
            tie = slice(first, last)
            ours = {name: values[row, tie] for name, values in rows.items()}
            theirs = {name: values[row, tie] for name, values in expected.items()}
            order = _match(ours, theirs, scales)
            for name, values in ours.items():
                rows[name][row, tie] = values[order]
            if last == width:
                _accept(rows, expected, scales, (row, tie), ranking.key, may_repeat=cut)
    return {**outputs, **matched}


def _rows(values: Values, dimensions: int) -> Values:
    """View an output as [outer, rows, content]."""
    shape = values.shape
    return values.reshape(-1, shape[dimensions - 1], int(np.prod(shape[dimensions:])))


def _scale(values: Values) -> float:
    """Return the magnitude of an output, by which distances are divided; 0 for numbers that count."""
    if values.dtype.kind != "f":
        return 0.0
    finite = values[np.isfinite(values)].astype(np.float64)
    return float(np.sqrt(np.mean(np.square(finite)))) or 1.0 if finite.size else 1.0


def _ties(scores: Values, tolerance: float) -> list[tuple[int, int]]:
    """Return first and last (exclusive) place of each run of at least two tied scores."""
    with np.errstate(invalid="ignore"):
        apart = ~(np.abs(np.diff(scores.astype(np.float64))) <= tolerance)
    bounds = [0, *(np.flatnonzero(apart) + 1).tolist(), len(scores)]
    pairs = itertools.pairwise(bounds)
    return [(first, last) for first, last in pairs if last - first > 1]


def _match(ours: dict[str, Values], theirs: dict[str, Values], scales: dict[str, float]) -> Values:
    """Return which of our rows stands for each of theirs: the nearest pairs first."""
    cost = _distances(ours, theirs, scales)
    count = len(cost)
    order = np.full(count, -1)
    free = np.ones(count, bool)
    for pair in np.argsort(cost, axis=None, kind="stable").tolist():
        place, candidate = divmod(pair, count)
        if order[place] < 0 and free[candidate]:
            order[place], free[candidate] = candidate, False
    return order


def _distances(
    ours: dict[str, Values], theirs: dict[str, Values], scales: dict[str, float]
) -> Values:
    """Return the distance of each of their rows [n, 1] from each of ours [1, n]."""
    count = len(next(iter(ours.values())))
    total = np.zeros((count, count))
    for name, values in ours.items():
        wanted, actual = theirs[name][:, None], values[None]
        if scales[name]:
            gap = np.abs(np.subtract(wanted, actual, dtype=np.float64)) / scales[name]
            gap = np.where(np.isnan(gap), np.inf, gap)
        else:
            gap = (wanted != actual).astype(np.float64)
        total += gap.max(-1, initial=0.0)
    return total


def _accept(
    rows: dict[str, Values],
    expected: dict[str, Values],
    scales: dict[str, float],
    place: tuple[int, slice],
    key: str,
    may_repeat: bool,
) -> None:
    """Accept other members of the last tie: rows that are not eager's become eager's, but the key.

    A row that repeats another one of the same list is no other member, unless rows `may_repeat`: on
    unusual values many candidates have the same content.
    """
    content = [name for name in rows if name != key]
    ours = {name: rows[name][place] for name in content}
    theirs = {name: expected[name][place] for name in content}
    other = np.diagonal(_distances(ours, theirs, scales)) > _OTHER_ROW
    row, tie = place
    for name in content if not may_repeat else ():
        repeated = repeated_rows(rows[name][row][None], expected[name][row][None], 2)
        other &= ~repeated[0, tie]
    for name in content:
        rows[name][place][other] = theirs[name][other]


def repeated_rows(values: Values, eager: Values, dimensions: int) -> Values:
    """Return which rows [lists, rows] have another row's values, where eager's do not.

    Rows of one number, and of whole numbers, repeat by chance. Eager's own repeat if boxes are
    clipped to the picture.

    Args:
        values, eager: an output of a ranking, of the artifact and of eager.
        dimensions: of the ranking's key.
    """
    rows = _rows(values, dimensions)
    if values.dtype.kind != "f" or rows.shape[-1] < 2:
        return np.zeros(rows.shape[:2], bool)
    return np.asarray(_equal_rows(rows) & ~_equal_rows(_rows(eager, dimensions)))


def _equal_rows(rows: Values) -> Values:
    """Return which rows of [lists, rows, content] equal another one of their list."""
    equal = np.ones((*rows.shape[:2], rows.shape[1]), bool)
    for column in range(rows.shape[2]):
        values = rows[:, :, column]
        equal &= values[:, :, None] == values[:, None]
    return np.asarray(equal.sum(-1) > 1)


def reconcile(
    answers: Sequence[Arrays],
    reference: Reference,
    lossless: bool,
    indices: Sequence[int] | None = None,
) -> list[Arrays]:
    """Return an artifact's outputs in eager's order.

    Scores are tied within twice the error that parity allows; those of a lossy artifact within three
    times its actual error, which parity judges.

    Args:
        answers: sets of outputs; those of other shapes than eager's stay as they are.
        reference: eager's outputs and the truth.
        lossless: whether the artifact computes in eager's own precision.
        indices: of the probes that the answers belong to; by default all, in order.
    """
    places = range(len(reference.eager)) if indices is None else indices
    pairs = zip(answers, places, strict=True)
    results = [_determined(outputs, reference, index) for outputs, index in pairs]
    for ranking in rankings(reference):
        typical = typical_errors(reference)[ranking.key]
        for number, index in enumerate(places):
            outputs, eager = results[number], reference.eager[index]
            if not _same_shapes(outputs, eager):
                continue
            truth = reference.truth[index][ranking.key]
            tolerance = 2 * NOISE_FP32 * error_scale(eager[ranking.key], truth, typical)
            if not lossless:
                gap = np.subtract(outputs[ranking.key], eager[ranking.key], dtype=np.float64)
                tolerance = max(tolerance, 3 * rms(np.where(np.isfinite(gap), gap, 0.0)))
            # On a picture of one colour, what was cut off is often equal to the last.
            cut = not reference.probes[index].ordinary
            results[number] = in_eagers_order(outputs, eager, ranking, tolerance, cut)
    return results


def _determined(outputs: Arrays, reference: Reference, index: int) -> Arrays:
    """Return outputs with eager's whole numbers where rounding decides them."""
    loose = reference.loose[index] if reference.loose else {}
    eager = reference.eager[index]
    accepted = dict(outputs)
    for name, mask in loose.items():
        if name in outputs and outputs[name].shape == mask.shape:
            accepted[name] = np.where(mask, eager[name], outputs[name]).astype(outputs[name].dtype)
    return accepted


def with_ordered_truth(reference: Reference) -> Reference:
    """Return the reference with the truth in eager's order."""
    return replace(reference, truth=reconcile(reference.truth, reference, lossless=True))


def _same_shapes(outputs: Arrays, eager: Arrays) -> bool:
    return all(
        name in outputs and outputs[name].shape == values.shape for name, values in eager.items()
    )
