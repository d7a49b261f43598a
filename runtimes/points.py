"""Percentage points: how a loss of accuracy or agreement is written, read and printed."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo

RECIPE = {"written": "recipe"}
"""Context of validation for values that a person wrote: there an ambiguous number is refused."""

_WRITTEN = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*(%|points?)\s*")
# Bare numbers that two readers take for two things. As shares, one to five points are usual and no
# share of points makes sense; beyond, `0.5` is fifty points to one and half a point to another.
# Bare numbers of points are ambiguous below that: `0.02` may be two points, written as a share.
_LARGEST_SHARE = 0.05


def points(share: float) -> str:
    """Return a share of 0..1 in percentage points, such as `0.5 points`."""
    number = f"{100 * share:.3g}"
    return f"{number} point" if number in ("1", "-1") else f"{number} points"


def _parse(value: Any) -> float | None:
    """Return the points of a text such as `0.5%` or `0.5 points`; None if it is no such text."""
    match = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    return float(match[1]) if match else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _without_unit(value: Any) -> None:
    """Raise ValueError for a text that `_parse` does not know."""
    if isinstance(value, str):
        raise ValueError(f"needs a number with its unit, such as `0.5%` or `0.5 points`: {value!r}")


def _as_fraction(value: Any) -> Any:
    """Return the share of 0..1 that a percentage is."""
    written = _parse(value)
    return value if written is None else written / 100


def _as_share(value: Any, info: ValidationInfo) -> Any:
    """Return the share of 0..1; a bare number is one, if a recipe leaves no doubt about it."""
    written = _parse(value)
    if written is not None:
        return written / 100
    _without_unit(value)
    if info.context is RECIPE and _is_number(value) and _LARGEST_SHARE < value <= 1:
        raise ValueError(
            f"{value:g} may mean {points(value)} (a share) or {points(value / 100)}: write "
            f"`{points(value)}` or `{points(value / 100)}`"
        )
    return value


def as_points(value: Any, info: ValidationInfo) -> Any:
    """Return the number of points; a bare number is one, if a recipe leaves no doubt about it."""
    written = _parse(value)
    if written is not None:
        return written
    _without_unit(value)
    if info.context is RECIPE and _is_number(value) and 0 < value < _LARGEST_SHARE:
        raise ValueError(
            f"{value:g} may mean {points(value / 100)} or {points(value)} (a share): write "
            f"`{points(value / 100)}` or `{points(value)}`"
        )
    return value


WrittenPoints = Annotated[str, Field(pattern=rf"^{_WRITTEN.pattern}$")]
"""A text such as `0.5%`."""
_OfOne = Annotated[float, Field(ge=0, le=1)]

Fraction = Annotated[
    _OfOne, BeforeValidator(_as_fraction, json_schema_input_type=_OfOne | WrittenPoints)
]
"""A share of 0..1; recipes may write `98%`."""

Share = Annotated[_OfOne, BeforeValidator(_as_share, json_schema_input_type=_OfOne | WrittenPoints)]
"""A loss as a share of 0..1; recipes write `0.5%` or `0.5 points`."""
