"""Calls of the user's code are told from those of packages."""

from __future__ import annotations

import numpy as np

from converters.steps.observe import callers


def test_a_call_of_the_users_code_is_one_through_python_as_well() -> None:
    assert callers.users_call() == []
    seen: list[list[str] | None] = []
    sorted([1], key=lambda _: seen.append(callers.users_call()) or 0)
    assert seen == [[]]


def test_a_call_through_a_package_serves_the_user() -> None:
    seen: list[tuple[list[str] | None, bool]] = []

    def look(_: object) -> float:
        # The lambda below is the user's own again: only frames of NumPy lie between it and this test.
        seen.append((callers.users_call(), callers.serves_user()))
        return 0.0

    np.apply_along_axis(look, 0, np.zeros((1, 1)))
    assert seen == [([], True)]
    assert callers.users_place() is not None


def test_no_import_runs_here() -> None:
    assert not callers.import_is_running()
