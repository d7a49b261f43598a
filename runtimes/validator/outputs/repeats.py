"""Lists of selected rows (detections) that name one of them twice, as eager's do not.

The last box of a list may be another member of a tie, and boxes of one scene lie close together: so a
repeated one is no large error. But a selection takes each candidate once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from runtimes.results import GateResult
from runtimes.spec import Arrays
from runtimes.validator.defaults import REPEATED_LISTS
from runtimes.validator.outputs.order import rankings, repeated_rows
from runtimes.validator.reference import Reference


def judge_repeats(answers: Sequence[Arrays], reference: Reference) -> Iterator[GateResult]:
    """Yield a failure for each output of several floats a row whose lists repeat a row too often."""
    for ranking in rankings(reference):
        dimensions = reference.truth[0][ranking.key].ndim
        for name in ranking.members:
            lists = repeating = 0
            for probe, outputs, eager in zip(
                reference.probes, answers, reference.eager, strict=True
            ):
                if not probe.sample:
                    continue
                repeats = repeated_rows(outputs[name], eager[name], dimensions)
                lists += len(repeats)
                repeating += int(np.sum(repeats.any(1)))
            if repeating > REPEATED_LISTS * lists:
                detail = (
                    f"{repeating} of {lists} lists of {name} have a row twice that eager has once"
                )
                yield GateResult(gate="parity", ok=False, detail=detail)
