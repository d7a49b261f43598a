"""Samples to learn from: read when they are first needed, kept while there is room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from converters.data.samples import Pool
from converters.data.uses import UNREADABLE_SHARE, Warn, checked
from runtimes.errors import InputError, UsageError
from runtimes.spec import Arrays, Specs

ROOM = 2 << 30
"""Bytes of samples that are kept: pictures need not be decoded in every epoch, and no data set fills the memory."""


@dataclass
class Shelf:
    """The samples of a pool by index, without labels."""

    pool: Pool
    inputs: Specs
    warn: Warn
    kept: dict[int, Arrays] = field(default_factory=dict)
    broken: dict[int, str] = field(default_factory=dict)
    _bytes: int = 0

    def batch(self, indices: Sequence[int]) -> Arrays:
        """The readable ones of these samples, stacked.

        Raises UsageError where none is, or more than 1 % of the pool cannot be read.
        """
        found = [one for index in indices if (one := self.sample(index)) is not None]
        if not found:
            raise UsageError("recover: no sample can be read:\n  " + "\n  ".join(self.broken.values()))
        return {name: _stacked(name, [one[name] for one in found]) for name in self.inputs}

    def sample(self, index: int) -> Arrays | None:
        """One sample; None where it cannot be read."""
        if index in self.broken:
            return None
        if index not in self.kept:
            try:
                sample = checked(self.pool, index, self.inputs).inputs
            except InputError as error:
                self._tell(index, str(error))
                return None
            if self._bytes > ROOM:
                return sample
            self.kept[index] = sample
            self._bytes += sum(array.nbytes for array in sample.values())
        return self.kept[index]

    def _tell(self, index: int, why: str) -> None:
        self.broken[index] = why
        self.warn(f"left out: {why}")
        if len(self.broken) > max(1, UNREADABLE_SHARE * len(self.pool.names)):
            shown = "\n  ".join(self.broken.values())
            raise UsageError(f"recover: {len(self.broken)} samples cannot be read:\n  {shown}")


def _stacked(name: str, arrays: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """One batch. Raises UsageError where the samples have several shapes."""
    shapes = sorted({one.shape for one in arrays})
    if len(shapes) > 1:
        raise UsageError(
            f"recover: samples of {name!r} are {list(shapes[0])} and {list(shapes[1])}, which makes no batch: pad "
            "them to one size, or use `batch: 1`"
        )
    return np.stack(arrays)


def batches(indices: Sequence[int], size: int, rng: np.random.Generator | None = None) -> Iterator[list[int]]:
    """The indices in batches, in random order where there is a generator; a lone sample at the end is left out."""
    order = list(indices) if rng is None else [indices[int(k)] for k in rng.permutation(len(indices))]
    for start in range(0, len(order), size):
        part = order[start : start + size]
        if len(part) > 1 or len(order) == 1 or size == 1:
            yield part
