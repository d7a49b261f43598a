"""A place for a defect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Place:
    """A place in one graph.

    Attributes:
        where: names the place.
        change: puts the defect into the graph that the place was found in, with details drawn from
            a generator, and returns them in words.
    """

    where: str
    change: Callable[[np.random.Generator], str]


@dataclass(frozen=True)
class Constant:
    """A constant of a graph.

    Attributes:
        name: of the constant.
        array: its values; not to be changed.
        write: puts other values of this dtype and shape in their place.
        bias: whether something adds it.
        scale: whether it is a scale, a zero point or a bound of a quantization.
    """

    name: str
    array: Array
    write: Callable[[Array], None]
    bias: bool = False
    scale: bool = False


Finder = Callable[[Any], Iterator[Place]]
"""Yields all places of a graph for one kind of defect."""
