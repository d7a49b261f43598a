"""Percentage points: one unit, written out; numbers that two people read as two things are refused."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, BeforeValidator, ValidationError

from runtimes.points import RECIPE, Fraction, Share, as_points, points

Points = Annotated[float, BeforeValidator(as_points)]


class Loss(BaseModel):
    share: Share | None = None
    points: Points | None = None
    fraction: Fraction | None = None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.5%", 0.5), ("0.5 %", 0.5), ("0.5 points", 0.5), ("1 point", 1.0), (".5points", 0.5)],
)
def test_a_loss_is_written_with_its_unit(text: str, expected: float) -> None:
    loss = Loss.model_validate({"share": text, "points": text, "fraction": text}, context=RECIPE)
    assert loss.points == expected
    assert loss.share == loss.fraction == pytest.approx(expected / 100)


@given(st.integers(1, 10000).map(lambda number: number / 10000))
def test_what_is_printed_is_read_as_the_same_share(share: float) -> None:
    assert Loss.model_validate({"share": points(share)}).share == pytest.approx(share, rel=1e-2)


@pytest.mark.parametrize("value", [0.0, 0.01, 0.02, 0.05])
def test_bare_shares_that_leave_no_doubt_stay_legal(value: float) -> None:
    assert Loss.model_validate({"share": value}, context=RECIPE).share == value


@pytest.mark.parametrize("value", [0.05, 0.5, 1.0, 4.0])
def test_bare_points_that_leave_no_doubt_stay_legal(value: float) -> None:
    assert Loss.model_validate({"points": value}, context=RECIPE).points == value


@pytest.mark.parametrize(
    ("name", "value", "readings"),
    [
        ("share", 0.5, "0.5 may mean 50 points (a share) or 0.5 points: write `50 points` or"),
        ("share", 1, "1 may mean 100 points (a share) or 1 point: write `100 points` or `1 point`"),
        ("points", 0.02, "0.02 may mean 0.02 points or 2 points (a share): write `0.02 points` or"),
    ],
)
def test_a_bare_number_with_two_readings_is_refused_in_a_recipe_with_both(
    name: str, value: float, readings: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        Loss.model_validate({name: value}, context=RECIPE)
    assert readings in str(caught.value)
    assert getattr(Loss.model_validate({name: value}), name) == value, "manifests hold numbers"


@pytest.mark.parametrize("value", ["0.5", "half", "-1%", "1 percent", ""])
def test_a_text_without_a_unit_is_refused(value: Any) -> None:
    for name in ("share", "points"):
        with pytest.raises(ValidationError, match=r"0\.5%` or `0\.5 points"):
            Loss.model_validate({name: value})
