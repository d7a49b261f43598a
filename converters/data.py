"""Samples from the recipe's data, with their labels where it has some."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converters.recipe import Pictures, Recipe
from runtimes.errors import InputError, UsageError
from runtimes.preprocess import Preprocess, read_image
from runtimes.spec import TensorSpec
from runtimes.validator.probes import Probe, best_sizes, synthetic_samples, with_limits

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_PREFIX = re.compile(r"^(\d+)")
_UNREADABLE_SHARE = 0.01  # more pictures than this that cannot be read fail the run

Image = np.ndarray[Any, Any]


Warn = Callable[[str], object]


def probes(recipe: Recipe, folder: Path, warn: Warn = lambda note: None) -> list[Probe]:
    """The recipe's pictures where it names some, else seeded noise; both with other sizes and edge values.

    `warn` is told of each picture that was left out.
    """
    data = recipe.data.evaluation
    if data is None or recipe.preprocess is None:
        samples = synthetic_samples(recipe.inputs, recipe.dims, recipe.seed)
    else:
        samples = picture_samples(recipe, data, recipe.preprocess, folder, warn)
    return with_limits(samples, recipe.inputs, recipe.dims, recipe.seed)


def picture_samples(recipe: Recipe, data: Pictures, how: Preprocess, folder: Path, warn: Warn) -> list[Probe]:
    """Pictures as batches of the size to be fastest at; the last batch is filled up from the start.

    Raises:
        UsageError: the model has not exactly one input of the pictures' shape, or labels are missing.
    """
    if len(recipe.inputs) != 1:
        raise UsageError("data.evaluation: pictures fit a model with one input; this one has several")
    name, spec = next(iter(recipe.inputs.items()))
    files = picture_files(folder / data.images, data.samples)
    labels = read_labels(folder / data.images, files, data.labels, folder)
    images, kept = _read(files, how, warn)
    labels = [labels[index] for index in kept] if labels else []
    _check(images[0], spec, name)
    sizes = best_sizes(recipe.dims)
    count = spec.concrete(sizes)[0]
    batches = []
    for start in range(0, len(images), count):
        picked = [index % len(images) for index in range(start, start + count)]
        stack = np.stack([images[index] for index in picked]).astype(spec.dtype)
        # What fills the last batch up was counted already: only the new samples have labels.
        known = tuple(labels[start : start + count])
        batches.append(Probe(f"pictures from {start}", {name: stack}, "data", sizes, (), known))
    return batches


def picture_files(folder: Path, samples: int) -> list[Path]:
    """Pictures spread evenly over a folder, by name. Raises UsageError where it has none."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder} of pictures")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not files:
        raise UsageError(f"{folder} has no pictures ({', '.join(_SUFFIXES)})")
    count = min(samples, len(files))
    return [files[index * len(files) // count] for index in range(count)]


def _read(files: Sequence[Path], how: Preprocess, warn: Warn) -> tuple[list[Image], list[int]]:
    """The pictures that can be read, and their indices. Raises UsageError where more than 1 % cannot."""
    images, kept, broken = [], [], []
    for index, file in enumerate(files):
        try:
            images.append(read_image(file, how))
            kept.append(index)
        except InputError as error:
            broken.append(str(error))
    if len(broken) > _UNREADABLE_SHARE * len(files):
        raise UsageError(f"{len(broken)} of {len(files)} pictures cannot be read:\n  " + "\n  ".join(broken))
    for one in broken:
        warn(f"left out: {one}")
    return images, kept


def _check(image: Image, spec: TensorSpec, name: str) -> None:
    want, got = spec.shape[1:], image.shape
    if len(want) != len(got) or any(isinstance(w, int) and w != g for w, g in zip(want, got, strict=True)):
        raise UsageError(f"preprocess makes pictures of {list(got)}, the input {name!r} is {spec}")


def read_labels(root: Path, files: Sequence[Path], how: str | None, folder: Path) -> list[int]:
    """The class index of each picture; empty where the recipe names no labels.

    Args:
        root: the folder of the pictures.
        files: the pictures.
        how: `folder` (class folders, numbered by name, as ImageFolder does), `prefix` (the digits that a
            file's name starts with), or a CSV file of name,index rows.
        folder: what a CSV file's path is relative to.

    Raises:
        UsageError: a picture has no label.
    """
    if how is None:
        return []
    if how == "folder":
        classes = sorted(path.name for path in root.iterdir() if path.is_dir())
        named = {file: classes.index(file.relative_to(root).parts[0]) for file in files if file.parent != root}
    elif how == "prefix":
        named = {file: int(match.group(1)) for file in files if (match := _PREFIX.match(file.name))}
    else:
        table = _read_csv(folder / how)
        named = {file: table[key] for file in files if (key := file.relative_to(root).as_posix()) in table}
    if missing := [file.name for file in files if file not in named]:
        raise UsageError(f"labels: {how} gives no label to {len(missing)} pictures, the first is {missing[0]}")
    return [named[file] for file in files]


def _read_csv(path: Path) -> dict[str, int]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a byte order mark
            rows = [row for row in csv.reader(file) if len(row) >= 2 and row[1].strip().isdecimal()]
    except OSError as error:
        raise UsageError(f"labels: cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"labels: {path} is not a CSV file in UTF-8: {error}") from error
    return {row[0].strip(): int(row[1]) for row in rows}
