"""The limit of a metric of the user's own."""

from __future__ import annotations

from collections.abc import Iterator

from runtimes.results import GateResult
from runtimes.validator.evidence import Evidence


def metric(evidence: Evidence) -> Iterator[GateResult]:
    """Yield whether the user's metric is no worse than allowed."""
    limit, result = evidence.gates.metric_drop, evidence.parity.metric
    if limit is None:
        return
    if result is None:
        detail = "metric_drop needs the recipe's metric: name the recipe (--recipe)"
        yield GateResult(gate="parity", ok=False, detail=detail)
        return
    if evidence.reference.synthetic and not evidence.lossless:
        detail = (
            f"the metric {result.name} was measured on noise, which shows nothing of real inputs"
        )
        remedy = "real samples would decide it: add data.evaluation to the recipe"
        yield GateResult(gate="parity", ok=None, detail=detail, remedy=remedy)
        return
    detail = (
        f"{result.name} is {result.artifact:.4g}, eager's {result.eager:.4g}: worse by "
        f"{result.drop:.3g}, at most {limit:g}"
    )
    yield GateResult(gate="parity", ok=result.drop <= limit, detail=detail)
