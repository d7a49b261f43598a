"""Samples from the recipe's data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converters.recipe import Recipe
from runtimes.errors import UsageError
from runtimes.preprocess import read_image
from runtimes.validator.probes import Probe, export_sizes, synthetic_probes, unseen_size

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def picture_files(folder: Path, samples: int) -> list[Path]:
    """The first pictures of a folder, by name. Raises UsageError where it has none."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder} of pictures")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES)
    if not files:
        raise UsageError(f"{folder} has no pictures ({', '.join(_PICTURES)})")
    return files[:samples]


def probes(recipe: Recipe, folder: Path) -> list[Probe]:
    """The recipe's pictures where it names some, else seeded noise.

    A picture fills the recipe's only input, whose first dimension is the batch: first one by one at the
    batch to be fastest at, then a batch of a size that the exporter never saw.
    """
    data = recipe.data.evaluation
    if data is None or recipe.preprocess is None:
        return synthetic_probes(recipe.inputs, recipe.dims, recipe.seed)
    if len(recipe.inputs) != 1:
        raise UsageError("data.evaluation: pictures fit a model with one input; this one has several")
    how = recipe.preprocess
    images = [read_image(file, how) for file in picture_files(folder / data.images, data.samples)]
    name, spec = next(iter(recipe.inputs.items()))
    want, got = spec.shape[1:], images[0].shape
    if len(want) != len(got) or any(isinstance(w, int) and w != g for w, g in zip(want, got, strict=True)):
        raise UsageError(f"preprocess makes pictures of {list(got)}, the input {name!r} is {spec}")
    batch = spec.shape[0]
    if isinstance(batch, int):
        return _batches(name, images, batch, {})
    dim, seen = recipe.dims[batch], export_sizes(recipe.dims)[batch]
    unseen = unseen_size(dim, seen)
    return [
        *_batches(name, images, dim.best, {batch: dim.best}),
        *_batches(name, images[:unseen] * (unseen if len(images) < unseen else 1), unseen, {batch: unseen})[:1],
    ]


def _batches(name: str, images: Sequence[np.ndarray[Any, Any]], size: int, sizes: dict[str, int]) -> list[Probe]:
    """Full batches of pictures; the last one is filled up from the start."""
    count = -(-len(images) // size)
    filled = [images[index % len(images)] for index in range(count * size)]
    stacks = [np.stack(filled[start : start + size]) for start in range(0, len(filled), size)]
    return [Probe(f"pictures, batch {number} of {size}", {name: stack}, False, sizes)
            for number, stack in enumerate(stacks)]  # fmt: skip
