"""All that can be said of the fault of the first layer that diverges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from converters.debug.entry import entering
from converters.debug.judge import own_error, own_fault
from converters.debug.looks import looks
from converters.debug.match.graph import Dependency, Taps
from converters.debug.match.layer import CallKey, Layer
from converters.debug.result import LayerReport
from converters.debug.truth import Eager
from runtimes.spec import Arrays
from runtimes.validator.parity import rms


@dataclass(frozen=True)
class Suspect:
    """A layer to look at.

    Attributes:
        layer, value: the layer and the artifact's value of it.
        above: the layers that it is made of, with their values.
        made_of: the nodes on the way from those.
        others: layers and outputs of the same shape, by name.
    """

    layer: Layer
    value: str
    above: Mapping[CallKey, str]
    made_of: Dependency
    others: Mapping[str, CallKey]


def examine(report: LayerReport, suspect: Suspect, taps: Taps, eager: Eager, inputs: Arrays) -> LayerReport:
    """The report with what enters the layer, whether that explains its error, and what its values look like."""
    key = suspect.layer.key
    values = [*suspect.above.values(), suspect.value]
    read, again = taps.read(inputs, values), taps.read(inputs, values)
    truth = eager.values(inputs, [key, *suspect.others.values()], exact=True)
    found = {one: read[name] for one, name in suspect.above.items()} | {key: read[suspect.value]}
    others = {name: truth[one] for name, one in suspect.others.items()}
    words = looks(found[key], truth[key], others)
    if _moves(found[key], again[suspect.value]):
        words = ["two runs differ: it is random, as a dropout that was left on"]
    report = replace(report, looks=tuple(words))
    entry = entering(taps, eager, inputs, suspect.layer, suspect.made_of.through) if report.through else None
    if entry is None or suspect.layer.start is None:
        return report
    error, value, exact = entry
    if found[key].shape == truth[key].shape and value.shape == exact.shape:
        expected = eager.expected(inputs, found, (suspect.layer.start, value))[key]
        own = own_error(found[key], expected, truth[key])
        blameless = not own_fault(report.error_after, min(own, report.error_after))
    else:
        blameless = value.shape != exact.shape
    if blameless:
        words = looks(value, exact, {})
    return replace(report, error_entering=error, blameless=blameless, looks=tuple(words))


def _moves(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Whether two runs gave other values; by more than a change of the order of sums could."""
    if one.shape != other.shape:
        return True
    sound = np.isfinite(one) & np.isfinite(other)
    apart = rms(one[sound].astype(np.float64) - other[sound])
    return math.isfinite(apart) and apart > 1e-3 * rms(one[sound])
