"""A metric of the user's own, measured on eager's answers and on the artifact's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.errors import BurnishError
from runtimes.results import MetricResult
from runtimes.spec import Arrays
from runtimes.validator.reference import Reference

Measure = Callable[[Arrays, Arrays, "np.ndarray[Any, Any] | None"], float]
"""Returns a number for the outputs [samples, ...], the inputs and the labels of all samples."""


@dataclass(frozen=True)
class UserMetric:
    """A metric that a recipe names, and whether more of it is better."""

    name: str
    measure: Measure
    higher_is_better: bool

    def worse_by(self, eager: float, artifact: float) -> float:
        """Return by how much an artifact's value is worse than eager's."""
        return eager - artifact if self.higher_is_better else artifact - eager


def measured(metric: UserMetric, answers: Sequence[Arrays], reference: Reference) -> MetricResult:
    """Return the metric of an artifact and of eager (or the model before passes), over all samples.

    Raises BurnishError if outputs differ in size from sample to sample, or what the metric raises.
    """
    indices = [index for index, probe in enumerate(reference.probes) if probe.sample]
    inputs = stacked([reference.probes[index].inputs for index in indices], "inputs")
    labels = [label for index in indices for label in reference.probes[index].labels]
    all_labels = np.array(labels) if len(labels) == len(next(iter(inputs.values()))) else None

    def value(outputs: Sequence[Arrays]) -> float:
        chosen = [outputs[index] for index in indices]
        return float(metric.measure(stacked(chosen, "outputs"), inputs, all_labels))

    eager, artifact = value(reference.decisions), value(answers)
    drop = metric.worse_by(eager, artifact)
    return MetricResult(name=metric.name, eager=eager, artifact=artifact, drop=drop)


def stacked(samples: Sequence[Arrays], what: str) -> Arrays:
    """Return sets of arrays as one, along the first axis. Raises BurnishError if sizes differ."""
    try:
        return {name: np.concatenate([arrays[name] for arrays in samples]) for name in samples[0]}
    except ValueError as error:
        raise BurnishError(
            f"the recipe's metric needs {what} of one size for all samples: {error}"
        ) from error
