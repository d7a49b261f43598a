"""Rows of a ranking that a lossy artifact never selects: a detector that drops its fifth box.

Beside boxes that lie near to each other such a fault is small in dB. So each row of eager's is looked
for in the artifact's whole list: it is found if it is the nearest one to any of the artifact's rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from runtimes.results import GateResult
from runtimes.spec import Arrays
from runtimes.validator.accuracy import wilson
from runtimes.validator.defaults import SELECTED_FOUND
from runtimes.validator.outputs.order import Ranking, distances, rankings, rows_of, scale_of
from runtimes.validator.reference import Reference

Values = np.ndarray[Any, Any]


def judge_selected(
    answers: Sequence[Arrays], reference: Reference, precision: str
) -> Iterator[GateResult]:
    """Yield the place in eager's ranking whose row is proven to be found too seldom.

    Over the real samples; the last place is left out, since rounding decides what is cut off.

    Args:
        answers: in the artifact's own order; empty if there is none.
        reference: eager's.
        precision: of the artifact.
    """
    if not answers:
        return
    least = SELECTED_FOUND[precision]
    for ranking in rankings(reference):
        hits = [
            hit
            for probe, outputs, eager in zip(
                reference.probes, answers, reference.eager, strict=True
            )
            if probe.kind == "data"
            for hit in _found(outputs, eager, ranking)
        ]
        if not hits or len({len(hit) for hit in hits}) > 1:
            continue
        shares = np.mean(hits, axis=0)[:-1]
        place = int(np.argmin(shares))
        if wilson(shares[place], len(hits))[1] < least:
            detail = (
                f"row {place} of eager's ranking by {ranking.key} is among the artifact's in "
                f"{shares[place]:.1%} of {len(hits)} samples, at least {least:.0%}"
            )
            yield GateResult(gate="parity", ok=False, detail=detail)


def _found(outputs: Arrays, eager: Arrays, ranking: Ranking) -> Iterator[Values]:
    """Yield for each sorted list which of eager's rows are the nearest to one of the artifact's."""
    scores = eager[ranking.key]
    if any(outputs[name].shape != eager[name].shape for name in ranking.members):
        return
    ours = {name: rows_of(outputs[name], scores.ndim) for name in ranking.members}
    theirs = {name: rows_of(eager[name], scores.ndim) for name in ranking.members}
    scales = {name: scale_of(eager[name]) for name in ranking.members}
    for row in range(len(ours[ranking.key])):
        cost = distances(
            {name: values[row] for name, values in ours.items()},
            {name: values[row] for name, values in theirs.items()},
            scales,
        )
        found = np.zeros(len(cost), bool)
        found[cost.argmin(0)] = True
        found |= _repeated({name: values[row] for name, values in theirs.items()})
        yield found


def _repeated(rows: dict[str, Values]) -> Values:
    """Return which of eager's rows equal an earlier one: they cannot be told apart."""
    count = len(next(iter(rows.values())))
    joined = np.concatenate([np.asarray(v, np.float64).reshape(count, -1) for v in rows.values()], 1)
    _, first = np.unique(joined, axis=0, return_index=True)
    repeated = np.ones(count, bool)
    repeated[first] = False
    return repeated
