"""A classifier's decisions compared with eager's: classes, probabilities, accuracy on labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.results import Accuracy
from runtimes.spec import Arrays
from runtimes.validator.accuracy import paired
from runtimes.validator.inputs.distinct import new_rows
from runtimes.validator.outputs.classes import are_probabilities, class_scores
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference

Values = np.ndarray[Any, Any]
_TOP = 5


@dataclass(frozen=True)
class Agreement:
    """Agreement of two classifiers.

    Attributes:
        top1, top5: shares of 0..1.
        kl: mean Kullback-Leibler divergence of the artifact's softmax from eager's, in nats.
        samples: count of the compared samples.
        accuracy: on the samples that have labels; None if none has.
    """

    top1: float
    top5: float
    kl: float
    samples: int
    accuracy: Accuracy | None


def agreement(answers: Sequence[Arrays], reference: Reference) -> Agreement:
    """Compare decisions over the first output's last axis with those of the model before any pass.

    Only samples count: batches at other sizes repeat them, and edge values are no samples. Nor does
    a sample count twice that occurs twice in the data.
    """
    name = next(iter(reference.eager[0]))
    samples = [index for index, probe in enumerate(reference.probes) if probe.sample]
    probes = [reference.probes[index] for index in samples]
    decisions = [reference.decisions[index][name] for index in samples]
    probabilities = are_probabilities(decisions)
    new = new_rows([probe.inputs for probe in probes])
    scores = [
        _Scores(
            class_scores(answers[index][name], probabilities),
            class_scores(eager, probabilities),
            rows,
        )
        for index, eager, rows in zip(samples, decisions, new, strict=True)
    ]
    logits = np.concatenate([each.artifact[each.new] for each in scores])
    expected = np.concatenate([each.eager[each.new] for each in scores])
    return Agreement(
        top1=float(np.mean(logits.argmax(-1) == expected.argmax(-1))),
        top5=_top5(logits, expected),
        kl=float(np.mean(_divergence(_log_softmax(expected), _log_softmax(logits)))),
        samples=len(logits),
        accuracy=_accuracy(scores, probes),
    )


@dataclass(frozen=True)
class _Scores:
    """Scores of both classifiers for one batch, and which of its samples are new."""

    artifact: Values
    eager: Values
    rows: Values

    @property
    def new(self) -> Values:
        """Which rows of scores are those of new samples; all if samples cannot be told apart."""
        count = len(self.eager)
        if not len(self.rows) or count % len(self.rows):
            return np.ones(count, bool)
        return np.repeat(self.rows, count // len(self.rows))


def _top5(logits: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    best, expected_best = _best(logits), _best(expected)
    shares = []
    for classes, expected_classes in zip(best, expected_best, strict=True):
        common = set(classes) & set(expected_classes)
        shares.append(len(common) / len(classes))
    return float(np.mean(shares))


def _best(logits: np.ndarray[Any, Any]) -> list[list[int]]:
    """Return the best classes of each row, at most five."""
    count = min(_TOP, logits.shape[-1])
    order = np.argsort(-logits, axis=-1, kind="stable")
    best: list[list[int]] = order[:, :count].tolist()
    return best


def _log_softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with np.errstate(invalid="ignore", over="ignore"):
        shifted = logits - logits.max(-1, keepdims=True)
        result: np.ndarray[Any, Any] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def _divergence(log_p: np.ndarray[Any, Any], log_q: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the Kullback-Leibler divergence of each row.

    It is never negative by rounding; classes of probability 0 add nothing.
    """
    with np.errstate(invalid="ignore"):
        terms = np.where(log_p == -np.inf, 0.0, np.exp(log_p) * (log_p - log_q))
    rows: np.ndarray[Any, Any] = np.maximum(terms.sum(-1), 0.0)
    return rows


def _accuracy(scores: Sequence[_Scores], probes: Sequence[Probe]) -> Accuracy | None:
    labels: list[Values] = []
    classes: list[Values] = []
    expected: list[Values] = []
    for each, probe in zip(scores, probes, strict=True):
        if probe.kind != "data" or not probe.labels:
            continue
        count = len(probe.labels)  # the rows that fill up the last batch have none
        new = each.new[:count]
        labels.append(np.array(probe.labels)[new])
        classes.append(each.artifact[:count].argmax(-1)[new])
        expected.append(each.eager[:count].argmax(-1)[new])
    if not labels:
        return None
    return paired(*map(np.concatenate, (classes, expected, labels)))
