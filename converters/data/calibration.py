"""The samples that calibration uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from converters.data.split import CALIBRATION
from converters.data.uses import calibration_batches
from converters.digest import Key
from converters.recipe.schema import Recipe
from runtimes.spec import Arrays


class CalibrationSamples:
    """The calibration samples, read from their files on each iteration: one is in memory.

    Attributes:
        count: how many there are at most.
        notes: remarks for the report: noise instead of data, and the samples that `read` left out.
        digests: one per sample as the model takes it; filled by `read`.
        changed: whether a sample differed when it was read again.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, count: int | None, notes: list[str] | None = None
    ) -> None:
        """Open the samples; they are read later.

        `count` is the pass's; by default all samples of the recipe's `data.calibration`. `notes` is
        the list that exporters of version 0.1 hand in, and becomes the attribute.
        """
        self._arguments = (recipe, folder, count)
        source = recipe.data.calibration
        most = (source.samples if source else None) or CALIBRATION
        self.count = min(count, most) if count else most
        self.notes: list[str] = [] if notes is None else notes
        self.digests: list[bytes] = []
        self.changed = False
        if source and source.random is not None:
            self.notes.append(
                "calibrated with noise, not with data: its ranges and its accuracy are those of "
                "noise"
            )

    def read(self) -> None:
        """Go through all samples once. Raises UsageError as `calibration_batches` does."""
        batches = calibration_batches(*self._arguments, self.notes.append, "calibration samples")
        self.digests = [_fingerprint(sample) for sample in batches]

    def __iter__(self) -> Iterator[Arrays]:
        """Go through the samples from the start."""
        count = 0
        for sample in calibration_batches(*self._arguments):
            expected = self.digests[count] if count < len(self.digests) else None
            self.changed |= expected != _fingerprint(sample)
            count += 1
            yield sample
        self.changed |= count != len(self.digests)


def _fingerprint(sample: Arrays) -> bytes:
    """Return the digest of a sample's names, types, shapes and values."""
    key = Key()
    for name, array in sorted(sample.items()):
        key.add(f"{name} {array.dtype.str} {array.shape}", np.ascontiguousarray(array).tobytes())
    return key.hex().encode()
