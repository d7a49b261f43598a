"""Some of many, spread evenly over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return at most `count` of the items in order, evenly spread; the first is among them."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]
