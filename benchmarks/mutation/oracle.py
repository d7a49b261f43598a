"""The oracle: whether a mutant differs from the right artifact beyond rounding, anywhere.

It knows the right artifact and takes its time, which a validator cannot. A mutant of a float32
artifact differs if any part of an output, at any of the inputs, is farther from the right
artifact's than BEYOND_ROUNDING times what float32 eager errs. A mutant of a lossy artifact
differs if its defect is larger than the honest error of the lossy artifact: over all ordinary
inputs, over one index of an output's axis, or at one size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mutation.bank import ORDINARY, Entry, make_bank
from mutation.changes.change import Array
from mutation.subject import Subject
from runtimes.errors import BurnishError
from runtimes.session import Session
from runtimes.spec import Arrays
from runtimes.validator.defaults import ERROR_FLOOR, NOISE_FP32
from runtimes.validator.outputs.distance import error_scale, rms, typical_errors

BEYOND_ROUNDING = 4 * NOISE_FP32
"""Four times what the validator allows a whole output: a part of it may have that by chance."""
_TINY = float(np.finfo(np.float32).tiny)
_POOLED = 3  # inputs of one size whose mean says something
_LOSSY_SIZES = 200  # inputs at other sizes than the best, for a lossy artifact
_SMALL_PART = 1 / 16  # rounding errors of a part follow the magnitude of the whole


@dataclass(frozen=True)
class Difference:
    """How far a mutant is from the right artifact.

    Attributes:
        ratio: in units of rounding (lossless) or of the honest error (lossy); infinite if it
            raises, or has other shapes or non-finite values.
        where: the output, part and input.
        inputs: how many were tried.
    """

    ratio: float
    where: str
    inputs: int


class Oracle:
    """The right artifact's answers to a bank of inputs."""

    def __init__(self, subject: Subject, seed: int) -> None:
        self._lossless = subject.lossless
        self._bank = make_bank(subject, seed)
        if not self._lossless:
            legal = [entry for entry in self._bank if not entry.extreme]
            self._bank = legal[: ORDINARY + _LOSSY_SIZES]
        self._right = _answers(subject.format.open(subject.format.content), self._bank)
        if not self._lossless:
            exact = subject.exact.format
            self._exact = _answers(exact.open(exact.content), self._bank)
        self._usual, self._edge = _rounding(subject)

    @property
    def inputs(self) -> Sequence[Entry]:
        """The bank."""
        return self._bank

    def compare(self, session: Session) -> Difference:
        """Compare a mutant with the right artifact, until a difference is certain."""
        if self._lossless:
            return self._compare_lossless(session)
        return self._compare_lossy(session)

    def _compare_lossless(self, session: Session) -> Difference:
        worst = Difference(0.0, "", 0)
        for index, (entry, right) in enumerate(zip(self._bank, self._right, strict=True)):
            answers = _answer(session, entry)
            if answers is None:
                return Difference(math.inf, f"raises at {_label(entry)}", index + 1)
            for name, expected in right.items():
                share = (self._edge if entry.extreme else self._usual)[name]
                ratio, part = _farthest(answers[name], expected, share)
                if ratio > worst.ratio:
                    worst = Difference(ratio, f"{name}{part} at {_label(entry)}", index + 1)
            if worst.ratio > BEYOND_ROUNDING:
                return worst
        return Difference(worst.ratio, worst.where, len(self._bank))

    def _compare_lossy(self, session: Session) -> Difference:
        """Compare pooled squares: over the ordinary inputs, by parts, and over each size."""
        sums = _Sums()
        for entry, right, exact in zip(self._bank, self._right, self._exact, strict=True):
            answers = _answer(session, entry)
            if answers is None or _shapes(answers) != _shapes(right):
                return Difference(math.inf, f"raises or reshapes at {_label(entry)}", 1)
            for name, expected in right.items():
                defect = np.square(np.asarray(answers[name], np.float64) - expected)
                if not np.isfinite(defect).all():
                    return Difference(math.inf, f"{name} is not finite at {_label(entry)}", 1)
                honest = np.square(np.asarray(expected, np.float64) - exact[name])
                sums.add(name, entry, defect, honest)
        ratio, where = sums.worst()
        return Difference(ratio, where, len(self._bank))


class _Sums:
    """Squared defects and squared honest errors, by output, and by place or size."""

    def __init__(self) -> None:
        self._places: dict[str, list[tuple[Array, Array]]] = {}
        self._sizes: dict[tuple[str, int, int], list[tuple[float, float]]] = {}

    def add(self, name: str, entry: Entry, defect: Array, honest: Array) -> None:
        """Add one input's squares: by place at the best sizes, else by each size of the output."""
        if not entry.resized:
            self._places.setdefault(name, []).append((defect, honest))
            return
        for axis, size in enumerate(defect.shape):
            means = float(defect.mean()), float(honest.mean())
            self._sizes.setdefault((name, axis, size), []).append(means)

    def worst(self) -> tuple[float, str]:
        """Return the largest ratio, and where it is."""
        ratios = [(0.0, "")]
        whole: dict[str, float] = {}
        for name, pairs in self._places.items():
            defect, honest = (np.concatenate(squares) for squares in zip(*pairs, strict=True))
            whole[name] = float(honest.mean())
            ratios += [(ratio, f"{name}{part}") for ratio, part in _pooled(defect, honest)]
        for (name, axis, size), means in self._sizes.items():
            if len(means) >= _POOLED:
                defect_mean, honest_mean = np.mean(means, axis=0)
                ratio = math.sqrt(defect_mean / (max(honest_mean, whole[name]) + _TINY))
                ratios.append((ratio, f"{name} of size {size} on axis {axis}"))
        return max(ratios)


def _answer(session: Session, entry: Entry) -> Arrays | None:
    try:
        return session.run(entry.inputs)
    except BurnishError:
        return None


def _answers(session: Session, bank: Sequence[Entry]) -> list[Arrays]:
    return [session.run(entry.inputs) for entry in bank]


def _shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _label(entry: Entry) -> str:
    shapes = ", ".join(f"{name}{list(array.shape)}" for name, array in entry.inputs.items())
    return f"{shapes} ({'extreme' if entry.extreme else 'ordinary'} values)"


def _rounding(subject: Subject) -> tuple[dict[str, float], dict[str, float]]:
    """Return eager's error as a share of each output: the usual one, and the largest of all probes."""
    reference = subject.reference
    usual = {name: max(share, ERROR_FLOOR) for name, share in typical_errors(reference).items()}
    edge = dict(usual)
    for eager, truth in zip(reference.eager, reference.truth, strict=True):
        for name, exact in truth.items():
            if signal := rms(np.where(np.isfinite(exact), exact, 0.0)):
                edge[name] = max(edge[name], error_scale(eager[name], exact) / signal)
    return usual, edge


def _farthest(actual: Array, right: Array, share: float) -> tuple[float, str]:
    """Return the largest ratio of the error of a part to rounding, and the part."""
    if actual.shape != right.shape or actual.dtype != right.dtype:
        return math.inf, f" is {actual.dtype}{list(actual.shape)}"
    if not np.array_equal(np.isfinite(actual), np.isfinite(right)):
        return math.inf, " is not finite elsewhere"
    finite = np.isfinite(right)
    expected = np.where(finite, right, 0).astype(np.float64)
    error = np.square(np.where(finite, actual, 0) - expected)
    if not error.any():
        return 0.0, ""
    least = _SMALL_PART * rms(expected)
    worst, part = 0.0, ""
    for place, mean_error, mean_square in _parts(error, np.square(expected)):
        unit = share * np.maximum(np.sqrt(mean_square), least) + _TINY
        ratios = np.atleast_1d(np.sqrt(mean_error) / unit)
        index = int(np.argmax(ratios))
        if ratios[index] > worst:
            worst, part = float(ratios[index]), place.format(index)
    return worst, part


def _parts(*arrays: Array) -> Iterator[tuple[str, Array, Array]]:
    """Yield the means of two arrays over the whole and over each index of each axis."""
    first, second = arrays
    yield "", first.mean(), second.mean()
    for axis in range(first.ndim):
        others = tuple(other for other in range(first.ndim) if other != axis)
        place = ", ".join("{0}" if other == axis else ":" for other in range(first.ndim))
        yield f"[{place}]", first.mean(others), second.mean(others)


def _pooled(defect: Array, honest: Array) -> Iterator[tuple[float, str]]:
    """Yield the ratio of defect to honest error, both squared, of the whole and of inner indices."""
    whole = float(np.sqrt(honest.mean()))
    for place, mean_defect, mean_honest in _parts(defect, honest):
        if place.startswith("[{0}"):
            continue  # single samples
        scale = np.maximum(np.sqrt(mean_honest), _SMALL_PART * whole) + _TINY
        ratios = np.atleast_1d(np.sqrt(mean_defect) / scale)
        index = int(np.argmax(ratios))
        yield float(ratios[index]), place.format(index)
