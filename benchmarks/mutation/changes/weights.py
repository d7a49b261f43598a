"""Defects of weights: scaled, zeroed, exchanged, dropped, moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from mutation.changes.change import Array, Constant, Place
from mutation.formats.format import Editable

_FACTORS = (0.5, 0.9, 0.99, 1.05, 1.5, 2.0, -1.0)
_SMALL = 8  # elements of a constant that is no table of weights

Edit = Callable[[Array, np.random.Generator], str]
"""Changes an array in place and returns how."""


def weight_scaled(graph: Editable) -> Iterator[Place]:
    """Scale one weight."""
    yield from _on_weights(graph, _scale_one)


def weight_zeroed(graph: Editable) -> Iterator[Place]:
    """Set one weight to zero."""
    yield from _on_weights(graph, _zero_one)


def weight_swapped(graph: Editable) -> Iterator[Place]:
    """Exchange two weights that lie side by side."""
    yield from _on_weights(graph, _swap_two)


def channel_scaled(graph: Editable) -> Iterator[Place]:
    """Scale all weights of one channel."""
    yield from _on_weights(graph, _scale_channel)


def channel_zeroed(graph: Editable) -> Iterator[Place]:
    """Set all weights of one channel to zero."""
    yield from _on_weights(graph, _zero_channel)


def channel_swapped(graph: Editable) -> Iterator[Place]:
    """Exchange two channels that lie side by side."""
    yield from _on_weights(graph, _swap_channels)


def bias_dropped(graph: Editable) -> Iterator[Place]:
    """Set a bias to zero."""
    for constant in graph.constants():
        if constant.bias and constant.array.any():
            yield _place(constant, _zero_all)


def constant_moved(graph: Editable) -> Iterator[Place]:
    """Move a threshold, factor, index or scale."""
    for constant in graph.constants():
        if 0 < constant.array.size <= _SMALL and constant.array.dtype.kind in "fiu":
            yield _place(constant, _move)


def scale_moved(graph: Editable) -> Iterator[Place]:
    """Move a scale or a zero point of a quantization, or one of those of its channels."""
    for constant in graph.constants():
        if constant.scale and constant.array.size:
            yield _place(constant, _move)


def _on_weights(graph: Editable, edit: Edit) -> Iterator[Place]:
    for constant in graph.constants():
        array = constant.array
        if array.size > _SMALL and array.ndim >= 2 and array.dtype.kind in "fiu":
            yield _place(constant, edit)


def _place(constant: Constant, edit: Edit) -> Place:
    return Place(constant.name, partial(_edit, constant, edit))


def _edit(constant: Constant, edit: Edit, rng: np.random.Generator) -> str:
    array = np.array(constant.array)
    words = edit(array, rng)
    constant.write(array)
    return words


def _write(array: Array, index: tuple[int | slice, ...], values: Array | float) -> None:
    """Write values as the array's dtype: integers are rounded and cut to their range."""
    if array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        values = np.clip(np.round(values), limits.min, limits.max)
    array[index] = np.asarray(values).astype(array.dtype)


def _index(array: Array, rng: np.random.Generator) -> tuple[int, ...]:
    """Return the place of a weight that is not zero, if there is one."""
    places = np.argwhere(array) if array.any() else np.argwhere(np.ones_like(array))
    return tuple(int(index) for index in places[rng.integers(len(places))])


def _scale_one(array: Array, rng: np.random.Generator) -> str:
    index, factor = _index(array, rng), float(rng.choice(_FACTORS))
    _write(array, index, float(array[index]) * factor)
    return f"{list(index)} times {factor:g}"


def _zero_one(array: Array, rng: np.random.Generator) -> str:
    index = _index(array, rng)
    array[index] = 0
    return f"{list(index)} is zero"


def _swap_two(array: Array, rng: np.random.Generator) -> str:
    flat = array.reshape(-1)
    place = int(rng.integers(flat.size - 1))
    flat[[place, place + 1]] = flat[[place + 1, place]]
    return f"{place} and {place + 1} exchanged"


def _channel(array: Array, rng: np.random.Generator) -> tuple[int, int]:
    axis = int(rng.choice([axis for axis, size in enumerate(array.shape) if size > 1] or [0]))
    return axis, int(rng.integers(array.shape[axis]))


def _at(axis: int, index: int) -> tuple[int | slice, ...]:
    return (*(slice(None),) * axis, index)


def _scale_channel(array: Array, rng: np.random.Generator) -> str:
    axis, index = _channel(array, rng)
    factor, place = float(rng.choice(_FACTORS)), _at(axis, index)
    _write(array, place, array[place].astype(np.float64) * factor)
    return f"index {index} of axis {axis} times {factor:g}"


def _zero_channel(array: Array, rng: np.random.Generator) -> str:
    axis, index = _channel(array, rng)
    array[_at(axis, index)] = 0
    return f"index {index} of axis {axis} is zero"


def _swap_channels(array: Array, rng: np.random.Generator) -> str:
    axis, index = _channel(array, rng)
    other = index - 1 if index else min(1, array.shape[axis] - 1)
    order = np.arange(array.shape[axis])
    order[[index, other]] = order[[other, index]]
    array[...] = np.take(array, order, axis)
    return f"indices {other} and {index} of axis {axis} exchanged"


def _zero_all(array: Array, rng: np.random.Generator) -> str:
    array[...] = 0
    return "is zero"


def _move(array: Array, rng: np.random.Generator) -> str:
    index = tuple(int(rng.integers(size)) for size in array.shape)
    before = array[index].item()
    if array.dtype.kind == "f":
        moved = before * float(rng.choice([0.5, 0.9, 1.1, 2.0])) or float(rng.choice([0.01, 1.0]))
    else:
        moved = before + int(rng.choice([-1, 1]))
    _write(array, index, moved)
    return f"{list(index)} is {moved:g} instead of {before:g}"
