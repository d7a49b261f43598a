"""Batches of a recipe's samples, as probes: each of samples of one size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from converters.data.samples import Sample
from converters.recipe.schema import Recipe
from runtimes.errors import UsageError
from runtimes.spec import best_sizes
from runtimes.validator.inputs.sizes import Sizes, label
from runtimes.validator.probes import Probe


def make_batches(recipe: Recipe, samples: Sequence[Sample]) -> list[Probe]:
    """Return batches of the size to be fastest at; the last one is filled up from the start.

    Samples of several sizes (texts of several lengths) make batches of one size each. Those too few
    for a batch make a smaller one if that is legal.

    Raises UsageError if a sample has a size that `dims:` does not allow.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(tuple(_sizes(recipe, sample).values()), []).append(index)
    batches = []
    for indices in groups.values():
        sizes = {**best_sizes(recipe.dims), **_sizes(recipe, samples[indices[0]])}
        count, sizes = _batch(recipe, sizes, len(indices) if len(groups) > 1 else None)
        for start in range(0, len(indices), count):
            rows = [indices[row % len(indices)] for row in range(start, start + count)]
            new = indices[start : start + count]
            batches.append(_probe(recipe, samples, rows, new, sizes, len(groups) > 1))
    return batches


def _batch(recipe: Recipe, sizes: Sizes, few: int | None) -> tuple[int, Sizes]:
    """Return the number of samples in a batch, and all sizes; `few` is how many there are."""
    batch = next(iter(recipe.inputs.values())).shape[0]
    if isinstance(batch, int):
        return batch, sizes
    if few is not None and few < sizes[batch] and recipe.dims[batch].allows(few):
        sizes = {**sizes, batch: few}
    return sizes[batch], sizes


def _probe(
    recipe: Recipe,
    samples: Sequence[Sample],
    rows: Sequence[int],
    new: Sequence[int],
    sizes: Sizes,
    several: bool,
) -> Probe:
    """Stack the samples `rows`; only `new` ones were in no batch before, and have labels."""
    inputs = {name: np.stack([samples[row].inputs[name] for row in rows]) for name in recipe.inputs}
    labels = [samples[row].label for row in new]
    kind = "pictures" if recipe.data.evaluation and recipe.data.evaluation.images else "samples"
    name = f"{kind} from {new[0]}" + (f", {label(sizes)}" if several else "")
    return Probe(
        name, inputs, "data", sizes, (), tuple(number for number in labels if number is not None)
    )


def _sizes(recipe: Recipe, sample: Sample) -> Sizes:
    """Return the sizes of a sample's dynamic dimensions, the batch's left out.

    Raises UsageError if `dims:` does not allow one, or if two inputs differ in one.
    """
    sizes: Sizes = {}
    for name, spec in recipe.inputs.items():
        for size, dim in zip(sample.inputs[name].shape, spec.shape[1:], strict=True):
            if isinstance(dim, int):
                continue
            if sizes.setdefault(dim, size) != size:
                raise UsageError(
                    f"{sample.name} has {dim}={size} in {name!r}, and {dim}={sizes[dim]} elsewhere"
                )
            limits = recipe.dims[dim]
            if not limits.allows(size):
                steps = f" in steps of {limits.multiple_of}" if limits.multiple_of > 1 else ""
                raise UsageError(
                    f"{sample.name} has {dim}={size}, but `dims:` allows {limits.min} to "
                    f"{limits.max}{steps}: widen the range, or cut or pad the samples"
                )
    return sizes
