"""The samples that calibration learns from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from converters.data.uses import CALIBRATION, calibration_batches
from converters.digest import Key
from converters.recipe.schema import Recipe
from runtimes.spec import Arrays


class CalibrationSamples:
    """The calibration samples, read anew from their files each time they are gone through: one is in memory.

    Attributes:
        count: how many there are at most.
        notes: what is noticed while reading is added here, once.
        digests: of each, as the model takes it; known after `read`.
        changed: whether one was another when it was read again.
    """

    def __init__(self, recipe: Recipe, folder: Path, count: int | None, notes: list[str]) -> None:
        """`count`: of the pass; by default all that the recipe's `data.calibration` has."""
        self._source, self.notes = (recipe, folder, count), notes
        source = recipe.data.calibration
        most = (source.samples if source else None) or CALIBRATION
        self.count = min(count, most) if count else most
        self.digests: list[bytes] = []
        self.changed = False
        if source and source.random is not None:
            notes.append("calibrated with noise, not with data: its ranges and its accuracy are those of noise")

    def read(self) -> None:
        """Go through all of them once. Raises UsageError as `calibration_batches` does."""
        found: list[str] = []
        samples = calibration_batches(*self._source, found.append, "calibration samples")
        self.digests = [_fingerprint(sample) for sample in samples]
        self.notes += found

    def __iter__(self) -> Iterator[Arrays]:
        """Go through the samples from the start."""
        index = -1
        for index, sample in enumerate(calibration_batches(*self._source)):
            self.changed |= index >= len(self.digests) or self.digests[index] != _fingerprint(sample)
            yield sample
        self.changed |= index + 1 != len(self.digests)


def _fingerprint(sample: Arrays) -> bytes:
    """The digest of a sample's names, types, shapes and values."""
    key = Key()
    for name, array in sorted(sample.items()):
        key.add(f"{name} {array.dtype.str} {array.shape}", np.ascontiguousarray(array).tobytes())
    return key.hex().encode()
