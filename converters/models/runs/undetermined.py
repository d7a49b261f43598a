"""Whole numbers that rounding decides: which of two equal scores is first, or what is on a threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runtimes.spec import Arrays
from runtimes.validator.outputs.numbers import are_whole
from runtimes.validator.probes import Probe

_ULPS = 2.0**-22  # of an input's magnitude: a few roundings of float32
_RUNS = 3


def undetermined(
    run: Callable[[Arrays], Arrays], probes: Sequence[Probe], eager: Sequence[Arrays]
) -> list[Arrays]:
    """Return, for each probe, which elements of outputs of whole numbers rounding decides.

    An element is undetermined if it changes when the inputs move by a few units in their last place.

    Args:
        run: the eager model, from named inputs to named outputs.
        probes: the inputs.
        eager: the outputs for them.

    Returns:
        For each probe booleans of the shapes of those outputs; empty without such outputs, or
        without floating-point inputs.
    """
    pairs = zip(probes, eager, strict=True)
    ordinary = [outputs for probe, outputs in pairs if probe.ordinary]
    names = [name for name in eager[0] if are_whole([outputs[name] for outputs in ordinary])]
    floats = [name for name, array in probes[0].inputs.items() if array.dtype.kind == "f"]
    if not names or not floats:
        return [{} for _ in probes]
    rng = np.random.default_rng(0)
    scales = {name: _magnitude([probe.inputs[name] for probe in probes]) for name in floats}
    masks = []
    for probe, outputs in zip(probes, eager, strict=True):
        moved: Arrays = {name: np.zeros(outputs[name].shape, bool) for name in names}
        for _ in range(_RUNS):
            answers = run({**probe.inputs, **_shaken(probe.inputs, scales, rng)})
            for name in names:
                if answers[name].shape == outputs[name].shape:
                    moved[name] |= answers[name] != outputs[name]
        masks.append(moved)
    return masks


def _magnitude(arrays: Sequence[np.ndarray[Any, Any]]) -> float:
    """Return the median over the probes of an input's mean magnitude."""
    means = [float(np.mean(np.abs(array))) for array in arrays if array.size]
    return float(np.median([mean for mean in means if np.isfinite(mean)] or [1.0]))


def _shaken(arrays: Arrays, scales: dict[str, float], rng: np.random.Generator) -> Arrays:
    shaken: Arrays = {}
    for name, scale in scales.items():
        array = arrays[name]
        size = np.where(np.isfinite(array), np.maximum(np.abs(array), scale) * _ULPS, 0.0)
        shaken[name] = np.asarray(array + size * rng.standard_normal(array.shape), array.dtype)
    return shaken
