"""Errors of layers, and which layer is to blame for them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from runtimes.artifact.gates import Gates
from runtimes.validator.defaults import EDGE_ALLOWANCE, NOISE_FP32, SQNR_DB
from runtimes.validator.parity import distance, rms

# A layer is to blame where its relative error is more than this many times what it would be if the layer made
# none itself (6 dB of SQNR lost). A fault puts an error of 1e-2 where there was one of 1e-7. What was given with
# an error is no measure: a difference of two near values has a larger one, and is right.
GROWTH = 2.0


# A layer whose value differs from what the values before it give by more than this many times its whole error
# is not made of them: one was compared with the wrong value. Saturating integers give up to some three times.
MISLED = 10.0


@dataclass(frozen=True)
class Measure:
    """One layer's distance from the truth.

    Attributes:
        error: rms error over rms truth; infinite where values are not finite that eager's are.
        sqnr_db: the same in dB, as signal over error.
        noise: rms error over eager's own rms error.
        dtype: of the artifact's value.
        added: the part of `error` that the layer makes itself: its value against what the truth model makes of
            the artifact's values before it.
        candidate: which of the values that may be the layer's was taken.
        misled: it differs so much from what the values before it give that one of them is not what it takes.
    """

    error: float
    sqnr_db: float
    noise: float
    dtype: str
    candidate: int
    added: float = 0.0
    misled: bool = False


def measure(
    candidate: int, found: np.ndarray[Any, Any], eager: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]
) -> Measure:
    """Compare one value with the truth, where eager and truth are finite (masks hold -inf by design)."""
    if found.shape != truth.shape:
        return Measure(math.inf, -math.inf, math.inf, str(found.dtype), candidate)
    sound = np.isfinite(truth) & np.isfinite(eager)
    far = distance("", "", found[sound], eager[sound], truth[sound])
    if not math.isfinite(far.max_abs):
        return Measure(math.inf, far.sqnr_db, math.inf, str(found.dtype), candidate)
    return Measure(10 ** (-far.sqnr_db / 20), far.sqnr_db, far.noise, str(found.dtype), candidate)


def own_error(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    """The error over the truth's rms that a layer makes itself.

    More than its whole error means that it was not given what `expected` was computed from. Where what it was
    given is not finite, nothing can be asked of it.
    """
    if found.shape != expected.shape:
        return math.inf
    sound = np.isfinite(expected) & np.isfinite(truth)
    with np.errstate(invalid="ignore", over="ignore"):
        wrong = rms(np.asarray(found, np.float64)[sound] - expected[sound])
    return wrong / (rms(truth[sound]) or 1.0) if math.isfinite(wrong) else math.inf


def own_fault(error: float, added: float) -> bool:
    """Whether a layer's error is explained by what it adds itself, and not by what it was given."""
    if math.isinf(error):
        return math.isinf(added)
    return error > GROWTH * math.sqrt(max(0.0, error**2 - added**2))


@dataclass(frozen=True)
class Limit:
    """What a layer of a correct artifact keeps: noise at most (float32), or SQNR at least (lossy)."""

    noise: float | None
    sqnr_db: float | None

    @classmethod
    def of(cls, precision: str, edge: bool = False, gates: Gates | None = None) -> Self:
        """The validator's own gates; a precision it has none for is held to the lowest of the lossy ones.

        `edge`: on a probe of edge values. `gates`: what the recipe asks instead.
        """
        if precision == "fp32":
            noise = gates.noise if gates and gates.noise is not None else NOISE_FP32
            return cls(noise * (EDGE_ALLOWANCE if edge else 1), None)
        asked = gates.sqnr_db if gates else None
        return cls(None, SQNR_DB.get(precision, min(SQNR_DB.values())) if asked is None else asked)

    @property
    def words(self) -> str:
        """As a report says it."""
        return f"at most {self.noise:g}x eager's error" if self.noise else f"at least {self.sqnr_db:g} dB SQNR"

    def exceeded(self, found: Measure) -> bool:
        """Whether a layer is further from the truth than this."""
        if self.noise is not None:
            return found.noise > self.noise
        return self.sqnr_db is not None and found.sqnr_db < self.sqnr_db


@dataclass(frozen=True)
class Verdict:
    """Who is to blame.

    Attributes:
        first: the first layer that diverges, in the order of the graph; None where no output does.
        gradual: no single layer is to blame, the error builds up; `first` is where it passes the limit.
        doubtful: layers that diverge while all that is made of them is right: what is wrong in them does not
            matter, or they were compared with the wrong value.
        misread: those of them that were compared with the wrong value: what is made of them tells.
    """

    first: int | None
    gradual: bool
    doubtful: frozenset[int]
    misread: frozenset[int] = frozenset()


def error_before(layer: int, found: Mapping[int, Measure], above: Mapping[int, Collection[int]]) -> float:
    """The largest error of the layers that this one takes; 0 where it takes the model's inputs."""
    return max((found[one].error for one in above[layer]), default=0.0)


def jump(layer: int, found: Mapping[int, Measure], above: Mapping[int, Collection[int]]) -> float:
    """How much the error grows from the nearest measured layers to this one, as a difference of squares."""
    after, before = found[layer].error, error_before(layer, found, above)
    if math.isinf(after):
        return 0.0 if math.isinf(before) else math.inf
    return math.sqrt(max(0.0, after**2 - before**2))


def judge(
    found: Mapping[int, Measure], above: Mapping[int, Collection[int]], outputs: Collection[int], limit: Limit
) -> Verdict:
    """Find the first layer that is further from the truth than the limit, by what it adds itself.

    Args:
        found: what was measured, by layer, numbered in the order of the graph.
        above: per measured layer the nearest measured ones that it is made of.
        outputs: the layers that are the model's outputs.
        limit: of the artifact's precision.
    """
    over = {layer for layer in sorted(found) if limit.exceeded(found[layer])}
    below: dict[int, set[int]] = {layer: set() for layer in found}
    for layer, ones in above.items():
        for one in ones:
            below[one].add(layer)
    ended = not over & set(outputs)
    doubtful = {layer for layer in over if ended or (below[layer] and not below[layer] & over)}
    misread = frozenset(layer for layer in doubtful if any(found[one].misled for one in below[layer]))
    if ended:
        return Verdict(None, False, frozenset(doubtful), misread)
    blamed = sorted(over - doubtful)
    first = next((one for one in blamed if own_fault(found[one].error, found[one].added)), None)
    return Verdict(blamed[0] if first is None else first, first is None, frozenset(doubtful), misread)


def standing_out(
    found: Mapping[int, Measure], above: Mapping[int, Collection[int]], verdict: Verdict
) -> int | None:
    """Where an error builds up: the layer before that adds most, if more than `GROWTH` times any other.

    A fault may keep the limit at its own layer and pass it with what correct ones add behind it.
    """
    todo, made_of = [] if verdict.first is None else [verdict.first], set[int]()
    while todo:
        one = todo.pop()
        made_of.add(one)
        todo += [other for other in above[one] if other not in made_of]
    ranked = sorted(made_of - verdict.doubtful, key=lambda one: found[one].added, reverse=True)
    if not ranked or not found[ranked[0]].added:
        return None
    second = found[ranked[1]].added if len(ranked) > 1 else 0.0
    return ranked[0] if found[ranked[0]].added > GROWTH * second else None
