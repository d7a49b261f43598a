"""Accuracy on labelled data: the artifact's and eager's on the same samples, with an interval.

The difference of two paired proportions gets the interval of Agresti and Min (Statistics in
Medicine, 2005): unlike a bootstrap it does not shrink to nothing on three samples that both got
right.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from runtimes.results import Accuracy

Z95 = 1.959964  # of the normal distribution, two-sided 95 %


def paired(
    classes: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]
) -> Accuracy:
    """Compare two classifiers on the same labelled samples.

    Args:
        classes: the artifact's class per sample, integers [n].
        expected: eager's class per sample [n].
        labels: the true class per sample [n].

    Returns:
        Shares of 0..1; `drop` is eager's accuracy minus the artifact's (positive if the artifact is
        worse), with its 95 % interval; `mcnemar_p` is the exact two-sided p-value of the hypothesis
        that the two err equally often.
    """
    right, right_eager = classes == labels, expected == labels
    lost, won = int(np.sum(~right & right_eager)), int(np.sum(right & ~right_eager))
    low, high = paired_interval(lost, won, len(labels))
    return Accuracy(
        samples=len(labels),
        artifact=float(np.mean(right)),
        eager=float(np.mean(right_eager)),
        drop=(lost - won) / len(labels),
        ci95=(low, high),
        mcnemar_p=_mcnemar(lost, won),
        lost=lost,
        won=won,
        chance=_chance(expected, labels),
    )


def _chance(classes: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    """Return the expected share of right classes if they were dealt out at random.

    Method: the expected agreement of Cohen's kappa (Educational and Psychological Measurement,
    1960).
    """
    shares = [np.mean(classes == label) * np.mean(labels == label) for label in np.unique(labels)]
    return float(np.sum(shares))


def is_above_chance(accuracy: Accuracy) -> bool:
    """Return whether eager's accuracy is proven to be more than chance.

    Otherwise its loss shows nothing: the labels are another model's, or all of one class.
    """
    if accuracy.chance is None:
        return True
    spread = math.sqrt(accuracy.chance * (1 - accuracy.chance) / accuracy.samples)
    return accuracy.eager > accuracy.chance + Z95 * spread


def paired_interval(lost: float, won: float, samples: float) -> tuple[float, float]:
    """Return Agresti and Min's 95 % interval of a drop: half a sample is added to both counts.

    Args:
        lost: samples that only eager has right.
        won: samples that only the artifact has right.
        samples: all of them.
    """
    b, c, n = lost + 0.5, won + 0.5, samples + 2
    middle = (b - c) / n
    half = Z95 * math.sqrt(max(b + c - (b - c) ** 2 / n, 0)) / n
    return max(-1.0, middle - half), min(1.0, middle + half)


def wilson(share: float, samples: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of so many samples (JASA, 1927)."""
    square = Z95**2 / samples
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def _mcnemar(lost: int, won: int) -> float:
    """Return the exact p-value; by the null hypothesis discordant pairs are fair coin tosses."""
    total, extreme = lost + won, max(lost, won)
    tail: float = sum(math.comb(total, k) for k in range(extreme, total + 1)) / 2**total
    return min(1.0, 2 * tail)
