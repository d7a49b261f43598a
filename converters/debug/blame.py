"""Details of the fault of the first layer that diverges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from converters.debug.entry import LayerEntry, entry_of
from converters.debug.judge import own_error, own_fault
from converters.debug.looks import describe
from converters.debug.match.graph import Dependency, Taps
from converters.debug.match.layer import CallKey, Layer
from converters.debug.result import LayerReport
from converters.debug.truth import Eager, LayerValues
from runtimes.spec import Arrays
from runtimes.validator.outputs.distance import rms


@dataclass(frozen=True)
class Suspect:
    """A layer to examine.

    Attributes:
        layer, value: the layer and the artifact's value of it.
        above: the layers that it is made of, with their values.
        made_of: the nodes on the way from those.
        alike: layers and outputs of the same shape, by name.
    """

    layer: Layer
    value: str
    above: Mapping[CallKey, str]
    made_of: Dependency
    alike: Mapping[str, CallKey]


def examine(
    report: LayerReport, suspect: Suspect, taps: Taps, eager: Eager, inputs: Arrays
) -> LayerReport:
    """Add to the report how the values look, what enters the layer, and if that is the cause."""
    key = suspect.layer.key
    names = [*suspect.above.values(), suspect.value]
    first_run, second_run = taps.read(inputs, names), taps.read(inputs, names)
    truth = eager.values(inputs, [key, *suspect.alike.values()], exact=True)
    values = {parent: first_run[name] for parent, name in suspect.above.items()}
    values[key] = first_run[suspect.value]
    if _is_random(values[key], second_run[suspect.value]):
        looks = ["two runs differ: it is random, as a dropout that was left on"]
    else:
        alike = {name: truth[other_key] for name, other_key in suspect.alike.items()}
        looks = describe(values[key], truth[key], alike)
    report = replace(report, looks=tuple(looks))
    if not report.through:
        return report
    entry = entry_of(taps, eager, inputs, suspect.layer, suspect.made_of.through)
    if entry is None or suspect.layer.start is None:
        return report
    blameless = _is_blameless(report, suspect.layer, values, truth[key], entry, eager, inputs)
    if blameless:
        looks = describe(entry.value, entry.truth, {})
    return replace(report, error_entering=entry.error, blameless=blameless, looks=tuple(looks))


def _is_blameless(
    report: LayerReport,
    layer: Layer,
    values: LayerValues,
    truth: np.ndarray[Any, Any],
    entry: LayerEntry,
    eager: Eager,
    inputs: Arrays,
) -> bool:
    """Whether what enters the layer explains its error."""
    assert layer.start is not None
    value = values[layer.key]
    if value.shape != truth.shape or entry.value.shape != entry.truth.shape:
        return bool(entry.value.shape != entry.truth.shape)
    expected = eager.expected(inputs, values, (layer.start, entry.value))[layer.key]
    added = min(own_error(value, expected, truth), report.error_after)
    return not own_fault(report.error_after, added)


def _is_random(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> bool:
    """Whether two runs differ by more than the order of a sum could explain."""
    if first.shape != second.shape:
        return True
    finite = np.isfinite(first) & np.isfinite(second)
    difference = rms(first[finite].astype(np.float64) - second[finite])
    return math.isfinite(difference) and difference > 1e-3 * rms(first[finite])
