"""A place for a defect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mutation.graphs import Graph


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


Finder = Callable[[Graph], Iterator[Place]]
"""Yields all places of a graph for one kind of defect."""
