"""Annotations of forward(): which containers they name."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from torch import Tensor, nn

from converters.models.calls.annotations import (
    element_hints,
    hints_of_fields,
    hints_of_parameters,
    is_tuple,
    mapping_class,
)


class Sized(NamedTuple):
    boxes: tuple[Tensor, ...]
    scores: Tensor


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (tuple[Tensor, ...], True),
        (tuple[Tensor, ...] | None, True),
        (list[Tensor], False),
        (list[Tensor] | tuple[Tensor, ...], False),
        (None, False),
    ],
)
def test_the_first_container_of_a_union_counts(hint: Any, expected: bool) -> None:
    assert is_tuple(hint) is expected


def test_a_class_of_fields_is_found_in_a_union() -> None:
    assert mapping_class(Sized | None) is Sized
    assert mapping_class(dict[str, Tensor]) is dict
    assert hints_of_fields(Sized | None) == {"boxes": tuple[Tensor, ...], "scores": Tensor}


def test_elements_of_a_tuple_have_annotations_of_their_own() -> None:
    assert element_hints(tuple[Tensor, Sized], 2) == [Tensor, Sized]
    assert element_hints(list[Sized], 3) == [Sized] * 3
    assert element_hints(None, 2) == [None, None]


def test_annotations_that_cannot_be_read_are_none() -> None:
    class Model(nn.Module):
        def forward(self, xs: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert hints_of_parameters(Model()) == {}
