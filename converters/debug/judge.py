"""Errors of layers, and which layer is to blame for them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from runtimes.artifact.gates import Gates
from runtimes.validator.defaults import EDGE_ALLOWANCE, NOISE_FP32, SQNR_DB
from runtimes.validator.outputs.distance import measure_distance, rms

# A layer is to blame if its relative error is more than this many times the error that it would
# have if the layer added none itself (6 dB of SQNR lost). A fault adds an error of 1e-2 to one of
# 1e-7. The error of the inputs alone is no measure: a difference of two near values has a larger
# one, and is right.
GROWTH = 2.0


# A layer whose value differs from what the values before it give by more than this many times its
# whole error is not made of them: one of them was compared with the wrong value. Saturating
# integers give up to some three times.
MISLED = 10.0


@dataclass(frozen=True)
class Measure:
    """The distance of one layer from the truth.

    Attributes:
        error: rms error over rms truth; infinite if values are not finite and eager's are.
        sqnr_db: the same in dB, as signal over error.
        noise: rms error over eager's own rms error.
        dtype: of the artifact's value.
        added: the part of `error` that the layer adds itself: its value against what the truth
            model makes of the artifact's values before it.
        candidate: the index of the value that was chosen among those that may be the layer's.
        misled: the value differs so much from what the values before it give that one of them is
            not what the layer takes.
    """

    error: float
    sqnr_db: float
    noise: float
    dtype: str
    candidate: int
    added: float = 0.0
    misled: bool = False


def measure(
    candidate: int,
    value: np.ndarray[Any, Any],
    eager: np.ndarray[Any, Any],
    truth: np.ndarray[Any, Any],
) -> Measure:
    """Compare a value with the truth, where both models are finite (masks hold -inf by design)."""
    dtype = str(value.dtype)
    if value.shape != truth.shape:
        return Measure(math.inf, -math.inf, math.inf, dtype, candidate)
    finite = np.isfinite(truth) & np.isfinite(eager)
    gap = measure_distance("", "", value[finite], eager[finite], truth[finite])
    if not math.isfinite(gap.max_abs):
        return Measure(math.inf, gap.sqnr_db, math.inf, dtype, candidate)
    return Measure(10 ** (-gap.sqnr_db / 20), gap.sqnr_db, gap.noise, dtype, candidate)


def own_error(
    value: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]
) -> float:
    """Return the error that a layer adds itself, over the truth's rms.

    More than its whole error means that the layer did not take what `expected` was computed from.
    If its input is not finite, the layer is not held responsible.
    """
    if value.shape != expected.shape:
        return math.inf
    finite = np.isfinite(expected) & np.isfinite(truth)
    with np.errstate(invalid="ignore", over="ignore"):
        error = rms(np.asarray(value, np.float64)[finite] - expected[finite])
    return error / (rms(truth[finite]) or 1.0) if math.isfinite(error) else math.inf


def own_fault(error: float, added: float) -> bool:
    """Whether the error that a layer adds, and not its input, explains the layer's error."""
    if math.isinf(error):
        return math.isinf(added)
    return error > GROWTH * math.sqrt(max(0.0, error**2 - added**2))


@dataclass(frozen=True)
class Limit:
    """A bound for the layers of a correct artifact: noise (float32) or SQNR (lossy)."""

    noise: float | None
    sqnr_db: float | None

    @classmethod
    def of(cls, precision: str, edge: bool = False, gates: Gates | None = None) -> Self:
        """Return the validator's own gates; without one for the precision, the lowest lossy gate.

        `edge`: on a probe of edge values. `gates`: the recipe's, which take precedence.
        """
        if precision == "fp32":
            noise = gates.noise if gates and gates.noise is not None else NOISE_FP32
            return cls(noise * (EDGE_ALLOWANCE if edge else 1), None)
        if gates is not None and gates.sqnr_db is not None:
            return cls(None, gates.sqnr_db)
        return cls(None, SQNR_DB.get(precision, min(SQNR_DB.values())))

    @property
    def words(self) -> str:
        """The limit in words, for a report."""
        if self.noise:
            return f"at most {self.noise:g}x eager's error"
        return f"at least {self.sqnr_db:g} dB SQNR"

    def exceeded(self, measured: Measure) -> bool:
        """Whether a layer is further from the truth than this."""
        if self.noise is not None:
            return measured.noise > self.noise
        return self.sqnr_db is not None and measured.sqnr_db < self.sqnr_db


@dataclass(frozen=True)
class Verdict:
    """The layer to blame.

    Attributes:
        first: the first layer that diverges, in the order of the graph; None if no output does.
        gradual: no single layer is to blame, the error builds up; `first` is the layer that
            exceeds the limit.
        doubtful: layers that diverge although all that is made of them is right: their error does
            not matter, or they were compared with the wrong value.
        misread: those of them that were compared with the wrong value, as the layers made of them
            show.
    """

    first: int | None
    gradual: bool
    doubtful: frozenset[int]
    misread: frozenset[int] = frozenset()


def error_before(
    layer: int, measures: Mapping[int, Measure], above: Mapping[int, Collection[int]]
) -> float:
    """Return the largest error of the layers that this one takes; 0 for the model's inputs."""
    return max((measures[parent].error for parent in above[layer]), default=0.0)


def jump(
    layer: int, measures: Mapping[int, Measure], above: Mapping[int, Collection[int]]
) -> float:
    """Return how much the error grows from the nearest measured layers to this one.

    It is the root of a difference of squares.
    """
    error, previous = measures[layer].error, error_before(layer, measures, above)
    if math.isinf(error):
        return 0.0 if math.isinf(previous) else math.inf
    return math.sqrt(max(0.0, error**2 - previous**2))


def judge(
    measures: Mapping[int, Measure],
    above: Mapping[int, Collection[int]],
    outputs: Collection[int],
    limit: Limit,
) -> Verdict:
    """Find the first layer that exceeds the limit by the error that it adds itself.

    Args:
        measures: by layer, numbered in the order of the graph.
        above: per measured layer the nearest measured ones that it is made of.
        outputs: the layers that are the model's outputs.
        limit: of the artifact's precision.
    """
    over = {layer for layer in sorted(measures) if limit.exceeded(measures[layer])}
    below: dict[int, set[int]] = {layer: set() for layer in measures}
    for layer, parents in above.items():
        for parent in parents:
            below[parent].add(layer)
    outputs_right = not over & set(outputs)
    doubtful: set[int] = set()
    misread: set[int] = set()
    for layer in over:
        children = below[layer]
        if outputs_right or (children and not children & over):
            doubtful.add(layer)
            if any(measures[child].misled for child in children):
                misread.add(layer)
    if outputs_right:
        return Verdict(None, False, frozenset(doubtful), frozenset(misread))
    suspects = sorted(over - doubtful)
    for layer in suspects:
        if own_fault(measures[layer].error, measures[layer].added):
            return Verdict(layer, False, frozenset(doubtful), frozenset(misread))
    return Verdict(suspects[0], True, frozenset(doubtful), frozenset(misread))


def standing_out(
    measures: Mapping[int, Measure], above: Mapping[int, Collection[int]], verdict: Verdict
) -> int | None:
    """Return the layer before a gradual divergence that adds most of the error.

    None unless it adds more than `GROWTH` times as much as any other. A fault may keep the limit at
    its own layer and exceed it with what correct layers add later.
    """
    pending = [] if verdict.first is None else [verdict.first]
    made_of: set[int] = set()
    while pending:
        layer = pending.pop()
        made_of.add(layer)
        pending += [parent for parent in above[layer] if parent not in made_of]
    candidates = made_of - verdict.doubtful
    ranked = sorted(candidates, key=lambda layer: measures[layer].added, reverse=True)
    if not ranked or not measures[ranked[0]].added:
        return None
    second = measures[ranked[1]].added if len(ranked) > 1 else 0.0
    return ranked[0] if measures[ranked[0]].added > GROWTH * second else None
