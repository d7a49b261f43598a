"""Training samples: read when they are first needed, kept while there is room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from converters.data.samples import Pool
from converters.data.uses import UNREADABLE_SHARE, read_checked
from runtimes.errors import InputError, UsageError
from runtimes.spec import Arrays, Specs

ROOM = 2 << 30
"""Bytes of samples that are kept.

So pictures need not be decoded in every epoch, and no data set fills the memory.
"""


@dataclass
class Shelf:
    """The samples of a pool by index, without labels."""

    pool: Pool
    inputs: Specs
    kept: dict[int, Arrays] = field(default_factory=dict)
    broken: dict[int, str] = field(default_factory=dict)
    _bytes: int = 0

    @property
    def notes(self) -> list[str]:
        """A note for each sample that could not be read so far."""
        return [f"left out: {reason}" for reason in self.broken.values()]

    def batch(self, indices: Sequence[int]) -> Arrays:
        """Return the readable ones of these samples, stacked.

        Raises UsageError if none can be read, or more than 1 % of the pool cannot.
        """
        samples = []
        for index in indices:
            sample = self.sample(index)
            if sample is not None:
                samples.append(sample)
        if not samples:
            reasons = "\n  ".join(self.broken.values())
            raise UsageError(f"recover: no sample can be read:\n  {reasons}")
        return {name: np.stack([sample[name] for sample in samples]) for name in self.inputs}

    def batches(
        self, indices: Sequence[int], size: int, rng: np.random.Generator | None = None
    ) -> Iterator[list[int]]:
        """Yield the indices in batches of samples of one size, in random order with a generator.

        If the samples may have several sizes (texts of several lengths), all are read once to know
        them. Otherwise as `batches`.
        """
        groups = self._alike(indices)
        if len(groups) == 1:
            yield from batches(indices, size, rng)
            return
        parts = []
        for group in groups:
            order = list(group) if rng is None else rng.permutation(group).tolist()
            parts += [order[start : start + size] for start in range(0, len(order), size)]
        for position in range(len(parts)) if rng is None else rng.permutation(len(parts)):
            yield parts[int(position)]

    def _alike(self, indices: Sequence[int]) -> list[list[int]]:
        """Group the samples by their sizes; those that cannot be read are left out."""
        shapes = [spec.shape[1:] for spec in self.inputs.values()]
        if all(isinstance(size, int) for shape in shapes for size in shape):
            return [list(indices)]
        groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for index in indices:
            sample = self.sample(index)
            if sample is not None:
                key = tuple(sample[name].shape for name in self.inputs)
                groups.setdefault(key, []).append(index)
        return list(groups.values())

    def sample(self, index: int) -> Arrays | None:
        """Return one sample, or None if it cannot be read."""
        if index in self.broken:
            return None
        if index not in self.kept:
            try:
                sample = read_checked(self.pool, index, self.inputs).inputs
            except InputError as error:
                self._leave_out(index, str(error))
                return None
            if self._bytes > ROOM:
                return sample
            self.kept[index] = sample
            self._bytes += sum(array.nbytes for array in sample.values())
        return self.kept[index]

    def _leave_out(self, index: int, reason: str) -> None:
        self.broken[index] = reason
        if len(self.broken) > max(1, UNREADABLE_SHARE * len(self.pool.names)):
            reasons = "\n  ".join(self.broken.values())
            raise UsageError(f"recover: {len(self.broken)} samples cannot be read:\n  {reasons}")


def batches(
    indices: Sequence[int], size: int, rng: np.random.Generator | None = None
) -> Iterator[list[int]]:
    """Yield the indices in batches, in random order with a generator.

    A single last one is left out.
    """
    order = list(indices)
    if rng is not None:
        order = [indices[int(position)] for position in rng.permutation(len(indices))]
    for start in range(0, len(order), size):
        part = order[start : start + size]
        if len(part) > 1 or len(order) == 1 or size == 1:
            yield part
