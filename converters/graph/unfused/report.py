"""A quantized operator that its engine computes in float all the same, and how that is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

LISTED = 20
"""A manifest lists so many at most: a graph with more of them has the same few patterns again and again."""
_NAMED = 3  # in the note, which is one sentence


@dataclass(frozen=True)
class Unfused:
    """An operator that takes dequantized values and computes in float.

    Attributes:
        layer: the module path that its author knows; the node's name where the graph does not tell.
        operator: as the engine calls it.
        why: what keeps it from an integer kernel, as far as the engine lets one see.
    """

    layer: str
    operator: str
    why: str


def listed(found: Sequence[Unfused]) -> list[dict[str, Any]]:
    """For the manifest."""
    return [asdict(one) for one in found[:LISTED]]


def notes(found: Sequence[Unfused]) -> list[str]:
    """One sentence where there are any."""
    if not found:
        return []
    names = ", ".join(f"{one.operator} {one.layer}" for one in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    what, them = ("operator computes", "it") if len(found) == 1 else ("operators compute", "them")
    return [f"{len(found)} quantized {what} in float: no kernel fuses {them} ({names}{more})"]
