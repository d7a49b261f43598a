"""Quantized operators that their engine computes in float, and the report on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

LISTED = 20
"""The most that a manifest lists: a graph with more repeats the same few patterns."""
_NAMED = 3  # in the note, which is one sentence


@dataclass(frozen=True)
class Unfused:
    """An operator that takes dequantized values and computes in float.

    Attributes:
        layer: the module path; the node's name if the graph does not have it.
        operator: the engine's name for it.
        why: the reason that no integer kernel is used, as far as the engine shows it.
    """

    layer: str
    operator: str
    why: str


def listed(operators: Sequence[Unfused]) -> list[dict[str, Any]]:
    """Return entries for the manifest."""
    return list(map(asdict, operators[:LISTED]))


def notes(operators: Sequence[Unfused]) -> list[str]:
    """Return one sentence for the reader if there are any."""
    if not operators:
        return []
    count = len(operators)
    names = ", ".join(f"{operator.operator} {operator.layer}" for operator in operators[:_NAMED])
    more = f" and {count - _NAMED} more" if count > _NAMED else ""
    if count == 1:
        return [f"1 quantized operator computes in float: no kernel fuses it ({names})"]
    return [f"{count} quantized operators compute in float: no kernel fuses them ({names}{more})"]
