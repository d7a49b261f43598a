"""How a classifier's decisions compare with eager's: best classes, probabilities, and accuracy on labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.results import Accuracy
from runtimes.spec import Arrays
from runtimes.validator.accuracy import paired
from runtimes.validator.reference import Reference

_TOP = 5


@dataclass(frozen=True)
class Agreement:
    """top1, top5: shares of 0..1; kl: mean divergence of the artifact's softmax from eager's, in nats."""

    top1: float
    top5: float
    kl: float
    samples: int
    accuracy: Accuracy | None


def agreement(found: Sequence[Arrays], reference: Reference) -> Agreement:
    """Compare decisions over the first output's last axis: with those of the user's model, before any pass.

    Only samples count: batches at other sizes repeat them, and edge values are no samples.
    """
    name = next(iter(reference.eager[0]))
    kept = [index for index, probe in enumerate(reference.probes) if probe.kind in ("data", "noise")]
    mine, theirs = (
        np.concatenate([_rows(outputs[index][name]) for index in kept]) for outputs in (found, reference.decisions)
    )
    return Agreement(
        top1=float(np.mean(mine.argmax(-1) == theirs.argmax(-1))),
        top5=_top5(mine, theirs),
        kl=float(np.mean(_divergence(_log_softmax(theirs), _log_softmax(mine)))),
        samples=len(mine),
        accuracy=_accuracy(found, reference, name),
    )


def _rows(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(logits, np.float64).reshape(-1, logits.shape[-1] if logits.ndim else 1)


def _top5(mine: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    count = min(_TOP, mine.shape[-1])
    best = (np.argsort(-rows, axis=-1, kind="stable")[:, :count] for rows in (mine, theirs))
    shares = [len(set(a) & set(b)) / count for a, b in zip(*(rows.tolist() for rows in best), strict=True)]
    return float(np.mean(shares))


def _log_softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with np.errstate(invalid="ignore", over="ignore"):
        shifted = logits - logits.max(-1, keepdims=True)
        result: np.ndarray[Any, Any] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def _divergence(log_p: np.ndarray[Any, Any], log_q: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Kullback-Leibler divergence of each row; never negative by rounding, and what is impossible adds nothing."""
    with np.errstate(invalid="ignore"):
        terms = np.where(log_p == -np.inf, 0.0, np.exp(log_p) * (log_p - log_q))
    rows: np.ndarray[Any, Any] = np.maximum(terms.sum(-1), 0.0)
    return rows


def _accuracy(found: Sequence[Arrays], reference: Reference, name: str) -> Accuracy | None:
    kept = [index for index, probe in enumerate(reference.probes) if probe.kind == "data" and probe.labels]
    if not kept:
        return None
    labels = np.array([label for index in kept for label in reference.probes[index].labels])
    mine, theirs = (
        np.concatenate([_rows(outputs[index][name])[: len(reference.probes[index].labels)] for index in kept])
        for outputs in (found, reference.decisions)
    )
    return paired(mine.argmax(-1), theirs.argmax(-1), labels)
