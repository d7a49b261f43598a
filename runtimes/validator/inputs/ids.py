"""Cover the ids of an input: each row of an embedding table is a weight that only its id shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.spec import Arrays, Dims, Specs, TensorSpec, best_sizes
from runtimes.validator.defaults import ID_PROBES, IDS_PER_PROBE
from runtimes.validator.inputs.draws import draw, integer_range, kind_of


@dataclass(frozen=True)
class Coverage:
    """Ids of one input that probes contain, of all legal ones."""

    input: str
    tried: int
    legal: int

    def __str__(self) -> str:
        return f"{self.tried:,} of {self.legal:,} ids of {self.input}"


def covering(
    inputs: Specs,
    sizes: Mapping[str, int],
    samples: Sequence[Arrays],
    rng: np.random.Generator,
) -> Iterator[Arrays]:
    """Yield inputs that contain the ids that the samples lack.

    At most ID_PROBES sets: of a larger vocabulary the ends, and ids spread evenly between them.
    """
    queues = {}
    for name, spec in inputs.items():
        if kind_of(name, spec) == "ids":
            queues[name] = _lacking(name, spec, sizes, samples)
    for number in range(ID_PROBES):
        arrays: Arrays = {}
        used = False
        for name, spec in inputs.items():
            arrays[name] = draw(name, spec, sizes, rng)
            size = arrays[name].size
            batch = queues.get(name, np.empty(0))[number * size : (number + 1) * size]
            arrays[name].reshape(-1)[: len(batch)] = batch
            used |= len(batch) > 0
        if not used:
            return
        yield arrays


def roomy(inputs: Specs, dims: Dims, batch: str | None) -> dict[str, int]:
    """Return the best sizes, with a batch large enough for IDS_PER_PROBE ids if rows have fewer."""
    sizes = best_sizes(dims)
    if batch is None:
        return sizes
    single = {**sizes, batch: 1}
    rows = [
        math.prod(spec.concrete(single))
        for name, spec in inputs.items()
        if kind_of(name, spec) == "ids"
    ]
    unit = dims[batch].multiple_of
    wanted = IDS_PER_PROBE // max(1, min(rows, default=IDS_PER_PROBE)) // unit * unit
    return {**sizes, batch: max(sizes[batch], min(wanted, dims[batch].max))}


def _lacking(
    name: str, spec: TensorSpec, sizes: Mapping[str, int], samples: Sequence[Arrays]
) -> np.ndarray[Any, Any]:
    """Return the ids that no sample has, or as many of them as the probes hold, spread evenly."""
    low, high = integer_range(spec)
    room = ID_PROBES * math.prod(spec.concrete(sizes))
    if high - low < 4 * room:
        seen = np.unique(np.concatenate([sample[name].reshape(-1) for sample in samples]))
        lacking = np.setdiff1d(np.arange(low, high + 1), seen)
        places = np.linspace(0, len(lacking) - 1, min(room, len(lacking)))
        return lacking[np.unique(np.round(places).astype(np.int64))]
    return np.unique(np.round(np.linspace(low, high, room)).astype(np.int64))


def coverage(inputs: Specs, probes: Sequence[Arrays]) -> list[Coverage]:
    """Return, for each input of ids, how many of them the probes contain."""
    reports = []
    for name, spec in inputs.items():
        if kind_of(name, spec) != "ids":
            continue
        low, high = integer_range(spec)
        tried = np.unique(np.concatenate([arrays[name].reshape(-1) for arrays in probes]))
        reports.append(Coverage(name, len(tried), high - low + 1))
    return reports
