"""Answers of an engine: compared with the manifest, in memory that is the caller's alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from runtimes.spec import Arrays, Specs


def copies(arrays: Mapping[str, Any]) -> Arrays:
    """Return copies of the arrays; anything else stays as it is, for the checks to name it."""
    return {
        name: array.copy() if isinstance(array, np.ndarray) else array
        for name, array in arrays.items()
    }


def independent(outputs: Arrays, inputs: Mapping[str, Any]) -> Arrays:
    """Return outputs that share no memory with the inputs or with each other."""
    taken = list(inputs.values())
    for name, array in outputs.items():
        if not isinstance(array, np.ndarray):
            continue
        if any(np.may_share_memory(array, other) for other in taken):
            outputs[name] = array.copy()
        taken.append(outputs[name])
    return outputs


def output_mismatch(outputs: Mapping[str, Any], specs: Specs) -> str | None:
    """Return how answers differ from `specs` in names, kind, dtype or rank, or None.

    Sizes are not compared: those of an output may follow from the data.
    """
    if list(outputs) != list(specs):
        return f"it has {', '.join(outputs) or 'no output'}, expected {', '.join(specs)}"
    for name, spec in specs.items():
        array = outputs[name]
        if not isinstance(array, np.ndarray):
            return f"{name!r} is a {type(array).__name__}, expected {spec}"
        if array.dtype != spec.dtype or array.ndim != len(spec.shape):
            return f"{name!r} is {array.dtype}{list(array.shape)}, expected {spec}"
    return None
