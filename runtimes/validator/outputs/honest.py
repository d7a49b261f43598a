"""The honest error of a lossy artifact: that of its precision alone, without a fault on top.

An absolute limit must leave room for the worst honest artifact, and a fault hides in that room: in
an int8 network of 34 dB a dead channel is still above 10 dB. So the error is compared with the
error that the precision explains. For int8 that is the error of the quantized graph before any
engine or lowering, for float16 and bfloat16 that of the eager model with all its numbers rounded;
the build measures both. Without a measurement float16 is estimated from eager's own rounding error,
which grows with the unit of rounding (Higham, Accuracy and Stability of Numerical Algorithms,
section 3.1: error bounds are linear in it).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from runtimes.spec import Arrays
from runtimes.validator.defaults import ERROR_FLOOR, HONEST_SAMPLES, HONEST_VALUES, PART_AXIS
from runtimes.validator.outputs.errors import Errors
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference

_SMALL_PART = 1 / 256  # of the whole's squared error: parts without an error of their own


def honest_samples(probes: Sequence[Probe], most: int = HONEST_SAMPLES) -> list[int]:
    """Return the indices of the probes that errors are measured on: about `most` rows."""
    chosen: list[int] = []
    rows = 0
    for index, probe in enumerate(probes):
        if probe.sample and rows < most:
            chosen.append(index)
            rows += max((len(array) for array in probe.inputs.values() if array.ndim), default=1)
    return chosen


def measure_errors(answers: Mapping[int, Arrays], reference: Reference) -> dict[str, Errors]:
    """Return the errors of each floating-point output.

    Args:
        answers: an artifact's outputs, by the index of the probe.
        reference: has the truth.
    """
    errors = {}
    for name, first in reference.truth[0].items():
        if first.dtype.kind == "f" and first.size:
            pairs = [
                (outputs[name], reference.truth[index][name]) for index, outputs in answers.items()
            ]
            measured = _measure(pairs)
            if measured is not None:
                errors[name] = measured
    return errors


def rounding_errors(reference: Reference) -> dict[str, Errors]:
    """Return eager's own errors in float32, at least the resolution of float32."""
    indices, errors = honest_samples(reference.probes), {}
    eager = {index: reference.eager[index] for index in indices}
    for name, measured in measure_errors(eager, reference).items():
        squares = [np.mean(np.square(reference.truth[index][name])) for index in indices]
        least = ERROR_FLOOR**2 * float(np.mean(squares))
        errors[name] = Errors(whole=max(measured.whole, least), axes=measured.axes)
    return errors


def excess(
    measured: Mapping[str, Errors], honest: Mapping[str, Errors]
) -> tuple[tuple[float, str], tuple[float, str]]:
    """Return by how many dB an error exceeds the honest one: the worst output, the worst part."""
    wholes, parts = [(-math.inf, "")], [(-math.inf, "")]
    for name in measured.keys() & honest.keys():
        wholes.append((_decibel(measured[name].whole, honest[name].whole), name))
        parts += _part_excess(name, measured[name], honest[name])
    return max(wholes), max(parts)


def _measure(pairs: list[tuple[Any, Any]]) -> Errors | None:
    """Return the errors over pairs of arrays of one shape; None if they cannot be pooled."""
    shape = pairs[0][1].shape
    total, samples = np.zeros(shape[1:]), 0
    for actual, exact in pairs:
        if actual.shape != exact.shape or exact.shape[1:] != shape[1:] or not exact.ndim:
            return None
        total += np.square(actual.astype(np.float64) - exact).sum(0)
        samples += len(exact)
    if not samples or not np.isfinite(total).all():
        return None
    mean = total / samples
    axes = tuple(_by_index(mean, axis, samples) for axis in range(mean.ndim))
    return Errors(whole=float(mean.mean()), axes=axes)


def _by_index(mean: np.ndarray[Any, Any], axis: int, samples: int) -> tuple[float, ...]:
    count = mean.shape[axis]
    if count > PART_AXIS or samples * mean.size // max(1, count) < HONEST_VALUES:
        return ()
    others = tuple(other for other in range(mean.ndim) if other != axis)
    return tuple(float(error) for error in mean.mean(others))


def _part_excess(name: str, measured: Errors, honest: Errors) -> Iterator[tuple[float, str]]:
    for axis, (errors, expected) in enumerate(zip(measured.axes, honest.axes, strict=False)):
        for index, (error, least) in enumerate(zip(errors, expected, strict=False)):
            place = [":"] * (len(measured.axes) + 1)
            place[axis + 1] = str(index)
            base = max(least, _SMALL_PART * honest.whole)
            yield _decibel(error, base), f"{name}[{', '.join(place)}]"


def _decibel(error: float, honest: float) -> float:
    if not error:
        return -math.inf
    return 10 * math.log10(error / honest) if honest else math.inf
