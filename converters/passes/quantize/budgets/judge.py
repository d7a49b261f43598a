"""Samples that an accuracy budget is held on, and the loss of a quantized graph on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from converters.passes.quantize.trial import Trial
from runtimes.spec import Arrays
from runtimes.validator.accuracy import paired, paired_interval, wilson
from runtimes.validator.outputs.classes import are_probabilities, class_scores
from runtimes.validator.outputs.metric import UserMetric, stacked

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Loss:
    """A loss in percentage points or in the unit of the user's metric; and its upper end (95 %)."""

    drop: float
    high: float


@dataclass(frozen=True)
class UserJudge:
    """The recipe's own metric on all samples.

    Attributes:
        metric: of the user's.
        names: of the outputs, in the graph's order.
        inputs, labels: as the metric takes them.
        eager: its value for eager's answers (the float graph's).
    """

    metric: UserMetric
    names: tuple[str, ...]
    inputs: Arrays
    labels: Array | None
    eager: float

    @classmethod
    def of(
        cls,
        metric: UserMetric,
        names: Sequence[str],
        exact: Trial,
        inputs: Sequence[Arrays],
        labels: Sequence[int | None],
    ) -> UserJudge:
        """Measure the metric of the float graph. Raises BurnishError as the metric does."""
        present = [label for label in labels if label is not None]
        all_labels = np.array(present) if len(present) == len(inputs) else None
        unmeasured = cls(metric, tuple(names), stacked(inputs, "inputs"), all_labels, 0.0)
        eager = unmeasured.value(exact, inputs)
        return cls(metric, tuple(names), unmeasured.inputs, all_labels, eager)

    def value(self, candidate: Trial, inputs: Sequence[Arrays]) -> float:
        """Return the metric of a graph's answers."""
        outputs = [dict(zip(self.names, candidate.run(each), strict=True)) for each in inputs]
        return float(self.metric.measure(stacked(outputs, "outputs"), self.inputs, self.labels))

    def drop(self, candidate: Trial, inputs: Sequence[Arrays]) -> float:
        """Return by how much a graph is worse than eager."""
        return self.metric.worse_by(self.eager, self.value(candidate, inputs))


@dataclass(frozen=True)
class Judge:
    """Held-out samples, with eager's float32 answers (by the float graph) and labels.

    `user`: if the budget is one of the recipe's own metric.
    """

    inputs: Sequence[Arrays]
    labels: Sequence[int | None]
    truth: Sequence[Array]
    user: UserJudge | None = None

    def loss(self, candidate: Trial, metric: str) -> Loss:
        """Return the loss of accuracy; see `QuantizeOptions.metric`."""
        if self.user is not None:
            drop = self.user.drop(candidate, self.inputs)
            return Loss(drop, drop)
        outputs = [candidate.run(inputs)[0] for inputs in self.inputs]
        if metric == "sqnr":
            share = float(np.sqrt(squared_error(outputs, self.truth) / _energy(self.truth)))
            return Loss(100 * share, 100 * share)
        probabilities = are_probabilities(self.truth)
        after = _best_classes(outputs, probabilities)
        before = _best_classes(self.truth, probabilities)
        if metric == "agreement":
            return _disagreement(float(np.mean(after != before)), len(before))
        labelled = np.array([label is not None for label in self.labels])
        labels = np.array([label for label in self.labels if label is not None])
        accuracy = paired(after[labelled], before[labelled], labels)
        return Loss(100 * accuracy.drop, 100 * accuracy.ci95[1])

    def least_provable(self, metric: str) -> float:
        """Return the smallest loss that these samples can prove, in points."""
        if metric in ("sqnr", "user"):
            return 0.0
        if metric == "agreement":
            return _disagreement(0.0, len(self.inputs)).high
        labelled = sum(label is not None for label in self.labels)
        return 100 * paired_interval(0, 0, labelled)[1]


def _disagreement(share: float, samples: int) -> Loss:
    return Loss(100 * share, 100 * (1 - wilson(1 - share, samples)[0]))


def _best_classes(outputs: Sequence[Array], probabilities: bool) -> Array:
    return np.array([class_scores(output, probabilities)[0].argmax() for output in outputs])


def squared_error(outputs: Sequence[Array], truth: Sequence[Array]) -> float:
    """Return the energy of the errors of some outputs."""
    errors = [np.float64(output) - exact for output, exact in zip(outputs, truth, strict=True)]
    return _sum_of_squares(errors)


def _energy(arrays: Sequence[Array]) -> float:
    return _sum_of_squares(arrays) or 1.0


def _sum_of_squares(arrays: Sequence[Array]) -> float:
    return float(sum(np.square(np.float64(array)).sum() for array in arrays))
