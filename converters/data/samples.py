"""Where samples come from: pictures, arrays in a file, a Python factory, noise. Each is read when asked for."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from converters import user_code as python
from converters.recipe.data import SampleSource
from converters.recipe.schema import Recipe
from converters.steps.trace import depend
from runtimes.errors import InputError, UsageError
from runtimes.preprocess.image import Preprocess, read_image
from runtimes.spec import Arrays, Specs, best_sizes
from runtimes.validator.probes import draw

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_PREFIX = re.compile(r"^(\d+)")
_INTEGER = re.compile(r"^\s*-?\d+\s*$")


@dataclass(frozen=True)
class Sample:
    """One sample: an array without batch axis per input, the true class where it is known, a name for messages."""

    inputs: Arrays
    label: int | None = None
    name: str = ""


@dataclass(frozen=True)
class Pool:
    """All samples of a source.

    Attributes:
        names: of each, for messages.
        read: gives the sample of an index. Raises InputError where it cannot be read.
    """

    names: Sequence[str]
    read: Callable[[int], Sample]

    def spread(self, count: int, without: Sequence[int] = ()) -> list[int]:
        """At most `count` indices spread evenly over those not in `without`."""
        left = sorted(set(range(len(self.names))) - set(without))
        count = min(count, len(left))
        return [left[index * len(left) // count] for index in range(count)]


def open_pool(recipe: Recipe, source: SampleSource, folder: Path) -> Pool:
    """The samples that a recipe names; `folder` is what its paths are relative to.

    Raises:
        UsageError: there are none, or they cannot fit the model.
    """
    if source.images is not None:
        return _pictures(recipe, source, folder)
    if source.arrays is not None:
        return _arrays(recipe.inputs, source, folder / source.arrays)
    if source.factory is not None:
        return _dataset(recipe, source, folder)
    return _noise(recipe, source.random or 0)


def _pictures(recipe: Recipe, source: SampleSource, folder: Path) -> Pool:
    how, name = recipe.preprocess, _only(recipe.inputs, "pictures")
    assert how is not None and source.images is not None  # the recipe was checked
    files = picture_files(folder / source.images)
    labels = read_labels(folder / source.images, files, source.labels, folder)
    return Pool([str(file) for file in files], partial(_picture, files, labels, how, name))


def _picture(files: Sequence[Path], labels: Sequence[int], how: Preprocess, name: str, index: int) -> Sample:
    return Sample({name: read_image(files[index], how)}, labels[index] if labels else None)


def _only(inputs: Specs, what: str) -> str:
    if len(inputs) != 1:
        raise UsageError(f"data: {what} fit a model with one input; this one has several")
    return next(iter(inputs))


def picture_files(folder: Path) -> list[Path]:
    """All pictures of a folder, by name. Raises UsageError where it has none."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder} of pictures")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not files:
        raise UsageError(f"{folder} has no pictures ({', '.join(_SUFFIXES)})")
    return files


def _arrays(inputs: Specs, source: SampleSource, path: Path) -> Pool:
    arrays = _load(path, inputs)
    names = [*inputs, *([source.labels] if source.labels else [])]
    if missing := [name for name in names if name not in arrays]:
        raise UsageError(f"{path} has no array {', '.join(missing)}; it has {', '.join(arrays)}")
    count = len(arrays[names[0]])
    if any(len(arrays[name]) != count for name in names) or not count:
        sizes = ", ".join(f"{name} {len(arrays[name])}" for name in names)
        raise UsageError(f"{path}: the arrays need as many samples each, and at least one: {sizes}")
    labels = arrays[source.labels] if source.labels else None
    titles = [f"{path} [{index}]" for index in range(count)]
    return Pool(titles, partial(_row, arrays, list(inputs), labels, titles))


def _row(arrays: Mapping[str, Any], names: Sequence[str], labels: Any, titles: Sequence[str], index: int) -> Sample:
    inputs = {name: np.asarray(arrays[name][index]) for name in names}
    return Sample(inputs, None if labels is None else _label(labels[index], titles[index]))


def _label(given: Any, title: str) -> int:
    """A label as an integer. Raises UsageError where it is none: to round it would be to guess."""
    value = np.asarray(given)
    one = value.reshape(-1)[0] if value.size == 1 else None
    if one is None or not (value.dtype.kind in "iub" or (value.dtype.kind == "f" and float(one).is_integer())):
        shown = f"{value.dtype}{list(value.shape)}" if one is None else one
        raise UsageError(f"labels: that of {title} is {shown}, not the number of a class (0, 1, ...)")
    return int(one)


def _load(path: Path, inputs: Specs) -> dict[str, Any]:
    """The arrays of a file; a .npy file stays on the disk. Nothing is unpickled."""
    try:
        if path.suffix == ".npy":
            return {_only(inputs, "a .npy file's samples"): np.load(path, mmap_mode="r", allow_pickle=False)}
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            depend(path)  # native code opens it
            return dict(load_file(path))
    except UsageError:
        raise
    except Exception as error:  # each of the three formats has errors of its own
        raise UsageError(f"{path} cannot be read: {error}") from error
    raise UsageError(f"{path}: arrays come in .npy, .npz and .safetensors files")


def _dataset(recipe: Recipe, source: SampleSource, folder: Path) -> Pool:
    made = python.call_factory(str(source.factory).removeprefix("python:"), source.args, folder, "data")
    try:
        count = len(made)
    except TypeError as error:
        raise UsageError(f"data: {source.factory} returned a {type(made).__name__}, which has no length") from error
    if not count:
        raise UsageError(f"data: {source.factory} returned no samples")
    names = [f"{source.factory} [{index}]" for index in range(count)]
    return Pool(names, partial(_item, made, list(recipe.inputs), names, recipe.task == "classification"))


def _item(made: Any, names: Sequence[str], titles: Sequence[str], classifies: bool, index: int) -> Sample:
    given = None
    try:
        found = made[index]
        if isinstance(found, tuple) and len(found) == 2:
            found, given = found
        if not isinstance(found, Mapping):
            found = {names[0]: found} if len(names) == 1 else {}
        arrays = {name: np.asarray(found[name]) for name in names if name in found}
    except Exception as error:  # a dataset of the user's own: it may raise what it likes
        raise InputError(f"{titles[index]} cannot be read: {type(error).__name__}: {error}") from error
    if missing := [name for name in names if name not in arrays]:
        raise InputError(f"{titles[index]} has no {', '.join(missing)}")
    # What comes with the samples of another task (a number, a mask) is no class.
    return Sample(arrays, _label(given, titles[index]) if classifies and given is not None else None)


def _noise(recipe: Recipe, seed: int) -> Pool:
    """A thousand samples of seeded noise; each from a seed of its own, so that it can be drawn alone."""
    return Pool([f"noise {index}" for index in range(1000)], partial(_drawn, recipe, seed))


def _drawn(recipe: Recipe, seed: int, index: int) -> Sample:
    rng, sizes = np.random.default_rng((seed, index)), best_sizes(recipe.dims)
    return Sample({name: draw(spec, sizes, rng)[0] for name, spec in recipe.inputs.items()})


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
            rows = [row for row in csv.reader(file) if len(row) >= 2 and _INTEGER.match(row[1])]
    except OSError as error:
        raise UsageError(f"labels: cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"labels: {path} is not a CSV file in UTF-8: {error}") from error
    return {row[0].strip(): int(row[1]) for row in rows}
