"""A metric of the user's own: what it makes of eager's answers, and of the artifact's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.errors import BurnishError
from runtimes.results import GateResult, MetricResult
from runtimes.spec import Arrays
from runtimes.validator.evidence import Evidence
from runtimes.validator.reference import Reference

Measure = Callable[[Arrays, Arrays, "np.ndarray[Any, Any] | None"], float]
"""Returns a number for the outputs [samples, ...], the inputs and the labels of all samples."""


@dataclass(frozen=True)
class UserMetric:
    """A metric that a recipe names, and whether more of it is better."""

    name: str
    measure: Measure
    higher_is_better: bool


def measured(metric: UserMetric, answers: Sequence[Arrays], reference: Reference) -> MetricResult:
    """Return the metric of an artifact and of eager (or the model before passes), over all samples.

    Raises BurnishError if outputs differ in size from sample to sample, or what the metric raises.
    """
    indices = [index for index, probe in enumerate(reference.probes) if probe.sample]
    inputs = _stacked([reference.probes[index].inputs for index in indices], "inputs")
    labels = [label for index in indices for label in reference.probes[index].labels]
    all_labels = np.array(labels) if len(labels) == len(next(iter(inputs.values()))) else None

    def value(outputs: Sequence[Arrays]) -> float:
        chosen = [outputs[index] for index in indices]
        return float(metric.measure(_stacked(chosen, "outputs"), inputs, all_labels))

    eager, artifact = value(reference.decisions), value(answers)
    worse = eager - artifact if metric.higher_is_better else artifact - eager
    return MetricResult(name=metric.name, eager=eager, artifact=artifact, drop=worse)


def _stacked(samples: Sequence[Arrays], what: str) -> Arrays:
    try:
        return {name: np.concatenate([arrays[name] for arrays in samples]) for name in samples[0]}
    except ValueError as error:
        raise BurnishError(
            f"the recipe's metric needs {what} of one size for all samples: {error}"
        ) from error


def metric(evidence: Evidence) -> Iterator[GateResult]:
    """Yield whether the user's metric is no worse than allowed."""
    limit, result = evidence.gates.metric_drop, evidence.parity.metric
    if limit is None:
        return
    if result is None:
        detail = "metric_drop needs the recipe's metric: name the recipe (--recipe)"
        yield GateResult(gate="parity", ok=False, detail=detail)
        return
    detail = (
        f"{result.name} is {result.artifact:.4g}, eager's {result.eager:.4g}: worse by "
        f"{result.drop:.3g}, at most {limit:g}"
    )
    yield GateResult(gate="parity", ok=result.drop <= limit, detail=detail)
