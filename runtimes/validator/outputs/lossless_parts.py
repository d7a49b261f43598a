"""Parts of a float32 output: the error of each channel in units of eager's own error there.

One noise over a tensor is that of its largest part: where boxes reach 640 pixels, their rounding
hides an error of a ten-thousandth in the scores beside them. So each index of each axis after the
first is also compared with eager's error at that index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.results import GateResult
from runtimes.spec import Arrays
from runtimes.validator.defaults import (
    ERROR_FLOOR,
    PART_AXIS,
    PART_NOISE_ALLOWANCE,
    PART_UNIT_SHARE,
)
from runtimes.validator.outputs.distance import error_scale, size_growth, typical_errors
from runtimes.validator.reference import Reference

Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PartNoise:
    """Noise of one part of an output on one probe.

    Attributes:
        name: of the output and the part (`boxes[:, 4, :]`).
        probe: its name.
        noise: ratio of the artifact's rms error in that part to eager's own.
    """

    name: str
    probe: str
    noise: float


def judge_part_noise(
    answers: Sequence[Arrays], reference: Reference, noise: float
) -> Iterator[GateResult]:
    """Yield whether the noisiest part is within the limit; nothing if no output has parts.

    Args:
        answers: the artifact's outputs for each probe.
        reference: eager's outputs and the truth.
        noise: limit of a whole output; a part is allowed PART_NOISE_ALLOWANCE times as much.
    """
    worst = noisiest_part(answers, reference)
    if worst is not None:
        limit = PART_NOISE_ALLOWANCE * noise
        detail = f"noise ({worst.name} at {worst.probe}) is {worst.noise:.3g}, at most {limit:g}"
        yield GateResult(gate="parity", ok=worst.noise <= limit, detail=detail)


def noisiest_part(answers: Sequence[Arrays], reference: Reference) -> PartNoise | None:
    """Return the noisiest part of all floating-point outputs on all ordinary probes."""
    ordinary = [index for index, probe in enumerate(reference.probes) if probe.ordinary]
    typical = typical_errors(reference)
    parts: list[PartNoise] = []
    for name, first in reference.truth[0].items():
        for axis in range(1, first.ndim if first.dtype.kind == "f" else 0):
            usual = _usual_errors(name, axis, reference, ordinary)
            if usual is None:
                continue
            for index in ordinary:
                units = _units(index, name, axis, reference, usual, typical[name])
                error = _errors(answers[index][name], index, name, axis, reference)
                parts.append(_worst(error / units, name, axis, first.ndim, reference, index))
    return max(parts, key=lambda part: part.noise, default=None)


def _worst(
    noise: Values, name: str, axis: int, dimensions: int, reference: Reference, index: int
) -> PartNoise:
    finite = np.where(np.isnan(noise), np.inf, noise)
    worst = int(np.argmax(finite))
    place = [":"] * dimensions
    place[axis] = str(worst)
    part = f"{name}[{', '.join(place)}]"
    return PartNoise(part, reference.probes[index].name, float(finite[worst]))


def _units(
    index: int, name: str, axis: int, reference: Reference, usual: Values, typical: float
) -> Values:
    """Return the unit of noise of each part along an axis, on one probe.

    It is eager's error in that part, here or usually, and at least its usual share of the part's
    magnitude: eager may be right by luck. Numbers as large as those of other parts, or of about one
    (a sigmoid, a softmax), may have been subtracted: so it is at least a share of the whole
    output's unit, and the resolution of float32. Where eager is always exact, nothing is known of
    the part alone, and the unit is the whole output's.
    """
    eager, truth = reference.eager[index][name], reference.truth[index][name]
    growth = size_growth(reference.probes[index].inputs, reference.probes[0].inputs)
    whole = error_scale(eager, truth, growth * typical)
    least = max(PART_UNIT_SHARE * whole, min(whole, ERROR_FLOOR))
    share = growth * max(typical, ERROR_FLOOR)
    here = _errors(eager, index, name, axis, reference)
    magnitude = _rms(truth, axis, _comparable(eager, truth))
    units = np.maximum.reduce([here, growth * usual, share * magnitude, np.full(len(usual), least)])
    return np.asarray(np.where(usual > 0, units, np.maximum(units, whole)))


def _usual_errors(
    name: str, axis: int, reference: Reference, probes: Sequence[int]
) -> Values | None:
    """Return eager's rms error of each part over probes.

    None if the axis has no parts: its size differs from probe to probe, or it has too many indices.
    """
    lengths = {reference.truth[index][name].shape[axis] for index in probes}
    count = lengths.pop()
    if lengths or not 2 <= count <= PART_AXIS:
        return None
    squares, values = np.zeros(count), 0
    for index in probes:
        error = _errors(reference.eager[index][name], index, name, axis, reference)
        size = reference.truth[index][name].size // count
        squares += size * np.square(error)
        values += size
    return np.asarray(np.sqrt(squares / max(1, values)))


def _errors(actual: Values, index: int, name: str, axis: int, reference: Reference) -> Values:
    """Return the rms error of each part along an axis, over the values that are comparable."""
    eager, truth = reference.eager[index][name], reference.truth[index][name]
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.asarray(actual, np.float64) - truth
    return _rms(difference, axis, _comparable(eager, truth))


def _comparable(eager: Values, truth: Values) -> Values:
    return np.asarray(np.isfinite(eager) & np.isfinite(truth))


def _rms(values: Values, axis: int, counted: Values) -> Values:
    """Return the rms at each index of an axis, over the counted values."""
    others = tuple(other for other in range(values.ndim) if other != axis)
    squares = np.square(np.where(counted, np.asarray(values, np.float64), 0.0))
    return np.asarray(np.sqrt(squares.sum(others) / np.maximum(1, counted.sum(others))))
