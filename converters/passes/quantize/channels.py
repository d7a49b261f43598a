"""Channels without information: dead (always 0) or constant on the calibration samples.

They cost as much as the others, and are a sign of a model that could be smaller, of samples that
show too little, or of the wrong preprocessing. They are reported; nothing is changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.data.spread import spread
from converters.graph.taps import reduce_values
from converters.passes.quantize.channel_taps import add_extremes, find_taps
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray[Any, Any]

SAMPLES = 32
"""Samples to look at, spread over all.

A convolution's channel has many values on each: of the 66 channels of MobileNetV2 that are dead on
so many photographs, 65 are dead on fifteen times as many."""
_PLACES = 300
# Number of equal values after an activation that is significant: a channel that is active at one
# place of a hundred is 0 at so many once in twenty times (the rule of three; Hanley and
# Lippman-Hand, JAMA, 1983).
_LISTED = 10  # layers that the manifest names, those with most such channels first


@dataclass
class _Extremes:
    """Extremes of each channel of a value, and the number of values and samples they cover."""

    low: Array
    high: Array
    places: int
    samples: int

    @property
    def still(self) -> Array:
        """The channels that had one value only."""
        return np.asarray(self.low == self.high)

    @property
    def zero(self) -> Array:
        """The channels that were 0 only."""
        return np.asarray((self.low == 0) & (self.high == 0))

    def merge(self, new: _Extremes) -> _Extremes:
        """Return the extremes of both together."""
        low, high = np.minimum(self.low, new.low), np.maximum(self.high, new.high)
        return _Extremes(low, high, self.places + new.places, self.samples + new.samples)


def silent_channels(
    model: ir.Model, samples: Iterable[Arrays], count: int, folder: Path
) -> dict[str, Any]:
    """Look for dead and constant channels after the layers of a float32 graph.

    Args:
        model: the graph.
        samples: inputs, of which `SAMPLES` are used; read once for each group of tapped values.
        count: number of samples.
        folder: for temporary files.

    Returns:
        `dead` and `constant`, each with the number of `samples` used, of `layers` and `channels`
        affected, and the layers with `most` of them, by module path: how many `channels` of how
        many.

    Raises ExportError if ONNX Runtime cannot run the graph.
    """
    layers = list(find_taps(model))
    opset = model.opset_imports.get("", 0)
    taps = {}
    for layer in layers:
        taps[layer.before] = partial(add_extremes, layer, opset)
        taps[layer.after] = taps[layer.before]
    extremes: dict[str, _Extremes] = {}
    for name, [lows, highs, shape] in reduce_values(model, taps, _Spread(samples, count), folder):
        low, high = np.atleast_2d(lows).min(0), np.atleast_2d(highs).max(0)
        # A batch consists of copies of one sample: they are no more places.
        new = _Extremes(low, high, int(np.prod(shape[1:])) // low.size, 1)
        extremes[name] = extremes[name].merge(new) if name in extremes else new
    dead, constants, channels = Counter[str](), Counter[str](), Counter[str]()
    for layer in layers:
        zeros, equal = _count_silent(extremes[layer.before], extremes[layer.after])
        channels[layer.path] += extremes[layer.after].low.size
        dead[layer.path] += zeros
        constants[layer.path] += equal
    used = max((value.samples for value in extremes.values()), default=0)
    return {"dead": _report(dead, channels, used), "constant": _report(constants, channels, used)}


def channel_summary(report: Mapping[str, Any]) -> str | None:
    """Return the result of `silent_channels` in a sentence, or None if it has no channels."""
    clauses = []
    for name, description in (("dead", "dead (0 at every place)"), ("constant", "constant")):
        entry = report[name]
        if not entry["channels"]:
            continue
        path, most = next(iter(entry["most"].items()))
        clause = f"{most['channels']} of {most['of']} channels of {path}"
        if entry["layers"] > 1:
            clause += f", and {entry['channels'] - most['channels']} of other layers,"
        clauses.append(f"{clause} were {description} on all {entry['samples']} samples looked at")
    if not clauses:
        return None
    summary = "; ".join(clauses)
    return f"{summary}: the model could be smaller, or the samples do not show all of its inputs"


class _Spread:
    """At most `SAMPLES` of `count` samples, spread evenly; one is in memory."""

    def __init__(self, samples: Iterable[Arrays], count: int) -> None:
        self._samples = samples
        self._picked = set(spread(range(count), SAMPLES))

    def __len__(self) -> int:
        return len(self._picked)

    def __iter__(self) -> Iterator[Arrays]:
        for index, sample in enumerate(self._samples):
            if index in self._picked:
                yield sample


def _count_silent(before: _Extremes, after: _Extremes) -> tuple[int, int]:
    """Count the dead and the constant channels.

    Before an activation two values are never equal by chance, so two samples suffice; after it 0 is
    common.
    """
    if after.samples < 2:
        return 0, 0
    sure = before.still | (after.places >= _PLACES)
    return int((after.zero & sure).sum()), int((after.still & ~after.zero & sure).sum())


def _report(silent: Counter[str], channels: Counter[str], samples: int) -> dict[str, Any]:
    layers = {path: count for path, count in silent.most_common() if count}
    most = {
        path: {"channels": layers[path], "of": channels[path]} for path in list(layers)[:_LISTED]
    }
    return {
        "samples": samples,
        "layers": len(layers),
        "channels": sum(layers.values()),
        "most": most,
    }
