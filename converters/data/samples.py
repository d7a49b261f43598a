"""Sources of samples: pictures, arrays in a file, a Python factory, noise.

Samples are read on request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from converters import user_code as python
from converters.data.label_table import read_label_table
from converters.data.spread import spread
from converters.recipe.data import SampleSource
from converters.recipe.schema import Recipe
from converters.steps.trace import depend
from runtimes.errors import InputError, UsageError
from runtimes.files.arrays import read_npy, read_npz
from runtimes.files.regular import check_regular
from runtimes.preprocess.image import Preprocess, read_image
from runtimes.spec import Arrays, Specs, best_sizes
from runtimes.validator.inputs.draws import draw_all

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_PREFIX = re.compile(r"^(\d+)")


@dataclass(frozen=True)
class Sample:
    """One sample: an array without batch axis per input, its label if any, a name for messages."""

    inputs: Arrays
    label: int | None = None
    name: str = ""


@dataclass(frozen=True)
class Pool:
    """All samples of a source.

    Attributes:
        names: one per sample, for messages.
        read: returns the sample of an index. Raises InputError if it cannot be read.
    """

    names: Sequence[str]
    read: Callable[[int], Sample]

    def spread(self, count: int, without: Sequence[int] = ()) -> list[int]:
        """Return at most `count` indices spread evenly over those not in `without`."""
        return spread(sorted(set(range(len(self.names))) - set(without)), count)


def open_pool(recipe: Recipe, source: SampleSource, folder: Path) -> Pool:
    """Open the samples that a recipe names; its paths are relative to `folder`.

    Raises:
        UsageError: there are no samples, or they cannot fit the model.
    """
    if source.images is not None:
        return _pictures(recipe, source, folder)
    if source.arrays is not None:
        return _arrays(recipe.inputs, source, folder / source.arrays)
    if source.factory is not None:
        return _dataset(recipe, source, folder)
    return _noise(recipe, source.random or 0)


def _pictures(recipe: Recipe, source: SampleSource, folder: Path) -> Pool:
    preprocess, name = recipe.preprocess, _single_input(recipe.inputs, "pictures")
    assert preprocess is not None and source.images is not None  # the recipe was checked
    files = picture_files(folder / source.images)
    labels = read_labels(folder / source.images, files, source.labels, folder)
    return Pool(list(map(str, files)), partial(_read_picture, files, labels, preprocess, name))


def _read_picture(
    files: Sequence[Path], labels: Sequence[int], preprocess: Preprocess, name: str, index: int
) -> Sample:
    return Sample({name: read_image(files[index], preprocess)}, labels[index] if labels else None)


def _single_input(inputs: Specs, samples: str) -> str:
    if len(inputs) != 1:
        raise UsageError(f"data: {samples} fit a model with one input; this one has several")
    return next(iter(inputs))


def picture_files(folder: Path) -> list[Path]:
    """Return all pictures of a folder, by name. Raises UsageError if it has none."""
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
    lengths = {name: len(arrays[name]) for name in names}
    count = lengths[names[0]]
    if len(set(lengths.values())) > 1 or not count:
        sizes = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UsageError(
            f"{path}: the arrays must have the same, non-zero number of samples: {sizes}"
        )
    labels = arrays[source.labels] if source.labels else None
    titles = [f"{path} [{index}]" for index in range(count)]
    return Pool(titles, partial(_read_row, arrays, list(inputs), labels, titles))


def _read_row(
    arrays: Mapping[str, Any], names: Sequence[str], labels: Any, titles: Sequence[str], index: int
) -> Sample:
    inputs = {name: np.asarray(arrays[name][index]) for name in names}
    return Sample(inputs, None if labels is None else _class_index(labels[index], titles[index]))


def _class_index(label: Any, title: str) -> int:
    """Return a label as an integer. Raises UsageError if it is none: rounding would be a guess."""
    array = np.asarray(label)
    if array.size != 1:
        raise UsageError(_BAD_LABEL.format(title=title, label=f"{array.dtype}{list(array.shape)}"))
    value = array.reshape(-1)[0]
    whole = array.dtype.kind in "iub" or (array.dtype.kind == "f" and float(value).is_integer())
    if not whole:
        raise UsageError(_BAD_LABEL.format(title=title, label=value))
    return int(value)


_BAD_LABEL = "labels: the label of {title} is {label}, not the index of a class (0, 1, ...)"


def _load(path: Path, inputs: Specs) -> dict[str, Any]:
    """Return the arrays of a file; a .npy file stays on the disk. Nothing is unpickled."""
    try:
        if path.suffix == ".npy":
            name = _single_input(inputs, "the samples of a .npy file")
            return {name: read_npy(path)}
        if path.suffix == ".npz":
            return dict(read_npz(path))
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            check_regular(path)
            depend(path)  # native code opens it
            return dict(load_file(path))
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # each of the three formats has errors of its own
        raise UsageError(f"{path} cannot be read: {str(error)[:300]}") from error
    raise UsageError(f"{path}: arrays must be in a .npy, .npz or .safetensors file")


def _dataset(recipe: Recipe, source: SampleSource, folder: Path) -> Pool:
    factory = str(source.factory).removeprefix("python:")
    dataset = python.call_factory(factory, source.args, folder, "data")
    try:
        count = len(dataset)
    except TypeError as error:
        kind = type(dataset).__name__
        raise UsageError(
            f"data: {source.factory} returned a {kind}, which has no length"
        ) from error
    if not count:
        raise UsageError(f"data: {source.factory} returned no samples")
    titles = [f"{source.factory} [{index}]" for index in range(count)]
    classifies = recipe.task == "classification"
    return Pool(titles, partial(_read_item, dataset, list(recipe.inputs), titles, classifies))


def _read_item(
    dataset: Any, names: Sequence[str], titles: Sequence[str], classifies: bool, index: int
) -> Sample:
    label = None
    try:
        inputs = dataset[index]
        if isinstance(inputs, tuple) and len(inputs) == 2:
            inputs, label = inputs
        if not isinstance(inputs, Mapping):
            inputs = {names[0]: inputs} if len(names) == 1 else {}
        parts = {name: _part(inputs, name) for name in names}
        arrays = {name: np.asarray(part) for name, part in parts.items() if part is not None}
    except Exception as error:  # the user's own dataset: it may raise anything
        raise InputError(
            f"{titles[index]} cannot be read: {type(error).__name__}: {error}"
        ) from error
    if missing := [name for name in names if name not in arrays]:
        raise InputError(f"{titles[index]} has no {', '.join(missing)}")
    # The second element of a sample of another task (a number, a mask) is no class.
    if not classifies or label is None:
        return Sample(arrays)
    return Sample(arrays, _class_index(label, titles[index]))


def _part(sample: Mapping[str, Any], name: str) -> Any:
    """Return the value of an input: by its name, or along its path (`boxes.0`); None if absent."""
    if name in sample:
        return sample[name]
    value: Any = sample
    for key in name.split("."):
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list | tuple) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _noise(recipe: Recipe, seed: int) -> Pool:
    """Return a thousand samples of noise, each with its own seed so that it can be drawn alone."""
    return Pool([f"noise {index}" for index in range(1000)], partial(_draw_sample, recipe, seed))


def _draw_sample(recipe: Recipe, seed: int, index: int) -> Sample:
    rng, sizes = np.random.default_rng((seed, index)), best_sizes(recipe.dims)
    arrays = draw_all(recipe.inputs, sizes, rng)
    return Sample({name: array[0] for name, array in arrays.items()})


def read_labels(root: Path, files: Sequence[Path], scheme: str | None, folder: Path) -> list[int]:
    """Return the class index of each picture; empty if the recipe names no labels.

    Args:
        root: the folder of the pictures.
        files: the pictures.
        scheme: `folder` (class folders, numbered by name, as ImageFolder does), `prefix` (the
            digits that a file's name starts with), or a CSV file of name,index rows.
        folder: what a CSV file's path is relative to.

    Raises:
        UsageError: a picture has no label.
    """
    if scheme is None:
        return []
    if scheme == "folder":
        labels = _labels_by_folder(root, files)
    elif scheme == "prefix":
        labels = _labels_by_prefix(files)
    else:
        labels = _labels_by_table(root, files, read_label_table(folder / scheme))
    if missing := [file.name for file in files if file not in labels]:
        raise UsageError(
            f"labels: {scheme} gives no label to {len(missing)} pictures, the first is {missing[0]}"
        )
    return [labels[file] for file in files]


def _labels_by_folder(root: Path, files: Sequence[Path]) -> dict[Path, int]:
    classes = sorted(path.name for path in root.iterdir() if path.is_dir())
    labels = {}
    for file in files:
        if file.parent != root:
            labels[file] = classes.index(file.relative_to(root).parts[0])
    return labels


def _labels_by_prefix(files: Sequence[Path]) -> dict[Path, int]:
    labels = {}
    for file in files:
        if match := _PREFIX.match(file.name):
            labels[file] = int(match.group(1))
    return labels


def _labels_by_table(
    root: Path, files: Sequence[Path], table: Mapping[str, int]
) -> dict[Path, int]:
    labels = {}
    for file in files:
        name = file.relative_to(root).as_posix()
        if name in table:
            labels[file] = table[name]
    return labels
