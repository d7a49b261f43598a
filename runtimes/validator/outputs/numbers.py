"""Outputs of whole numbers (classes, indices, masks): exact in float32, and in each part if lossy.

That most of a mask equals eager's shows little if most of it is background: an artifact that finds
nothing is as good. So a lossy artifact is also compared with a constant answer, on the whole and at
each index of each axis, and each value that eager gives has to be found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from runtimes.results import GateResult
from runtimes.spec import Arrays
from runtimes.validator.accuracy import wilson
from runtimes.validator.defaults import (
    NOISE_FP32,
    NUMBERS_BEYOND_CONSTANT,
    NUMBERS_FOUND,
    NUMBERS_VARYING,
    PART_AXIS,
)
from runtimes.validator.outputs.distance import rms
from runtimes.validator.outputs.order import ranked_axes
from runtimes.validator.reference import Reference

Values = np.ndarray[Any, Any]


def whole_numbers(reference: Reference) -> list[str]:
    """Return the names of outputs of integers or booleans, or of floats that are a mask."""
    ordinary = [
        outputs
        for probe, outputs in zip(reference.probes, reference.eager, strict=True)
        if probe.ordinary
    ]
    names = list(reference.eager[0])
    return [name for name in names if are_whole([outputs[name] for outputs in ordinary])]


def integers(names: Sequence[str], reference: Reference) -> list[str]:
    """Return those of some outputs that are of integers or booleans."""
    return [name for name in names if reference.eager[0][name].dtype.kind != "f"]


def are_whole(outputs: Sequence[Values]) -> bool:
    """Return whether arrays are of integers or booleans, or of floats of two whole values."""
    if not outputs or outputs[0].dtype.kind != "f":
        return True
    values: set[float] = set()
    for array in outputs:
        if not (np.isfinite(array).all() and np.array_equal(array, np.rint(array))):
            return False
        values.update(np.unique(array).tolist())
        if len(values) > _MASK_VALUES:
            return False
    return len(values) == _MASK_VALUES


_MASK_VALUES = 2


def equal(actual: Values, eager: Values) -> Values:
    """Return which whole numbers are equal; floats may be off by less than a half."""
    rounded = np.rint(actual) if actual.dtype.kind == "f" else actual
    return np.asarray(rounded == eager)


def exact_numbers(
    answers: Sequence[Arrays], reference: Reference, names: Sequence[str]
) -> Iterator[GateResult]:
    """Yield the first whole number of a float32 artifact that is neither eager's nor the truth's.

    As far as eager's own are off, since they were rounded from floats, others may be too. Numbers
    that rounding decides are eager's already.
    """
    exact = integers(names, reference)
    for index, probe in enumerate(reference.probes):
        if not probe.ordinary:
            continue
        for name in exact:
            actual = answers[index][name]
            eager, truth = reference.eager[index][name], reference.truth[index][name]
            if wrong := int(np.sum(_wrong(actual, eager, truth))):
                detail = (
                    f"{wrong} of {actual.size} values of {name} at {probe.name} are not eager's"
                )
                yield GateResult(
                    gate="parity", ok=False, detail=f"{detail}: they are whole numbers"
                )
                return


def _wrong(actual: Values, eager: Values, truth: Values) -> Values:
    wrong = np.asarray(actual != eager)
    if truth.dtype == eager.dtype:
        wrong &= actual != truth
    if eager.dtype == bool or not wrong.any():
        return wrong
    difference = np.abs(np.subtract(actual, eager, dtype=np.float64))
    rounding = rms(np.subtract(eager, truth, dtype=np.float64))
    return np.asarray(wrong & ~((difference <= NOISE_FP32 * rounding) & (rounding > 0)))


def judge_numbers(
    answers: Sequence[Arrays], reference: Reference, names: Sequence[str], precision: str
) -> Iterator[GateResult]:
    """Yield what real samples show of each output: a part that is a constant, a value not found."""
    for name in names:
        pairs = [
            (outputs[name], eager[name])
            for probe, outputs, eager in zip(
                reference.probes, answers, reference.eager, strict=True
            )
            if probe.kind == "data" and eager[name].ndim
        ]
        if not pairs or len({eager.shape[1:] for _, eager in pairs}) > 1:
            continue
        actual, eager = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
        ranked = ranked_axes(reference).get(name)
        yield from _constant_parts(name, actual, eager, NUMBERS_BEYOND_CONSTANT[precision], ranked)
        yield from _lost_values(name, actual, eager, NUMBERS_FOUND[precision])


def _constant_parts(
    name: str, actual: Values, eager: Values, least: float, ranked: int | None
) -> Iterator[GateResult]:
    """Yield the part that is nearest to a constant, if it is no better than that."""
    worst, where = 1.0, ""
    for axis in (None, *range(1, eager.ndim)):
        count = 1 if axis is None else eager.shape[axis]
        if count > PART_AXIS or (axis is not None and axis - 1 == ranked):
            continue
        for index in range(count):
            part = (actual, eager)
            place = name
            if axis is not None:
                part = (actual.take(index, axis), eager.take(index, axis))
                places = [str(index) if other == axis else ":" for other in range(eager.ndim)]
                place = f"{name}[{', '.join(places)}]"
            gained = _beyond_constant(*part)
            if gained is not None and gained < worst:
                worst, where = gained, place
    if where and worst < least:
        detail = (
            f"{where} is wrong {1 - worst:.2f} times as often as the most frequent value there "
            f"would be, at most {1 - least:g} times"
        )
        yield GateResult(gate="parity", ok=False, detail=detail)


def _beyond_constant(actual: Values, eager: Values) -> float | None:
    """Return the share of a constant's errors that an artifact does not make.

    None if too few numbers differ from the most frequent one.
    """
    _, counts = np.unique(eager, return_counts=True)
    varying = eager.size - int(counts.max(initial=0))
    if varying < NUMBERS_VARYING:
        return None
    return 1 - int(np.sum(~equal(actual, eager))) / varying


def _lost_values(name: str, actual: Values, eager: Values, least: float) -> Iterator[GateResult]:
    """Yield the value that is proven to be found too seldom where eager has it."""
    values, places, counts = np.unique(eager, return_inverse=True, return_counts=True)
    if len(values) > PART_AXIS:
        return
    hits = equal(actual, eager).reshape(-1)
    right = np.bincount(places.reshape(-1), hits, len(values))
    shares = [wilson(hit / count, count)[1] for hit, count in zip(right, counts, strict=True)]
    worst = int(np.argmin(shares))
    if shares[worst] < least:
        detail = (
            f"where eager's {name} is {values[worst]} ({counts[worst]} times), it is found in "
            f"{right[worst] / counts[worst]:.1%}, at least {least:.0%}"
        )
        yield GateResult(gate="parity", ok=False, detail=detail)
