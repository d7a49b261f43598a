"""Lossy artifacts at other sizes: one size whose error stands out from the others' has a fault.

An absolute limit leaves room for the worst honest artifact: an int8 artifact that is off by a fifth at
odd heights has 14 dB there. But quantization errs alike at each size of the same noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from runtimes.results import GateResult
from runtimes.spec import Arrays
from runtimes.validator.defaults import OUTLIER_DB, OUTLIER_SIZES, OUTLIER_SQNR_DB
from runtimes.validator.outputs.distance import measure_distance
from runtimes.validator.reference import Reference


def judge_sizes(
    answers: Sequence[Arrays], reference: Reference, precision: str
) -> Iterator[GateResult]:
    """Yield a failure for each output of floats with a size far below the better quarter of them.

    Batches of samples are left out: noise, of which the other sizes are, may err more. Nothing is
    judged of fewer than OUTLIER_SIZES sizes.
    """
    limit = OUTLIER_SQNR_DB.get(precision)
    probes = reference.probes
    sized = [k for k, probe in enumerate(probes) if probe.kind == "size" and not probe.rows]
    if limit is None or len(sized) < OUTLIER_SIZES:
        return
    for name, first in reference.truth[0].items():
        if first.dtype.kind != "f":
            continue
        decibels = [_sqnr(answers[index], reference, index, name) for index in sized]
        usual, worst = float(np.percentile(decibels, 75)), int(np.argmin(decibels))
        if decibels[worst] < min(limit, usual - OUTLIER_DB):
            detail = (
                f"SQNR in dB of {name} at {probes[sized[worst]].name} is {decibels[worst]:.3g}, at a "
                f"quarter of the sizes it is {usual:.3g} or more: such an outlier has at least {limit:g}"
            )
            yield GateResult(gate="parity", ok=False, detail=detail)


def _sqnr(outputs: Arrays, reference: Reference, index: int, name: str) -> float:
    eager, truth = reference.eager[index][name], reference.truth[index][name]
    probe = reference.probes[index]
    return measure_distance(probe.name, name, outputs[name], eager, truth).sqnr_db
