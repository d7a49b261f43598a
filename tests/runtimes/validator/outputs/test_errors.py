"""Errors of an output as a document, scaled, and with no part far below the others."""

from __future__ import annotations

from runtimes.validator.outputs.errors import Errors


def test_rounded_errors_are_read_again() -> None:
    errors = Errors(whole=1 / 3, axes=((1 / 7, 0.0), ()))
    again = Errors.model_validate(errors.rounded())
    assert again.whole == 0.333
    assert again.axes == ((0.143, 0.0), ())


def test_all_parts_are_scaled() -> None:
    errors = Errors(whole=1.0, axes=((0.5, 1.5), ()))
    assert errors.scaled(4.0) == Errors(whole=4.0, axes=((2.0, 6.0), ()))


def test_a_part_that_is_exact_by_chance_is_raised_to_a_share_of_the_mean() -> None:
    errors = Errors(whole=1.0, axes=((0.0, 4.0), (), (1.0,)))
    assert errors.leveled(0.5) == Errors(whole=1.0, axes=((1.0, 4.0), (), (1.0,)))
