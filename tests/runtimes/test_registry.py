"""Named plug-ins."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.errors import UsageError
from runtimes.registry import Registry, nearest
from runtimes.session import RUNTIMES

SHAPES = Registry("shape", "burnish.no-such-group", {"square": "math:sqrt", "circle": "math:pi"})


def test_a_shipped_name_is_imported() -> None:
    assert SHAPES.get("circle") == math.pi


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown shape 'sqare'; did you mean 'square'"):
        SHAPES.get("sqare")


def test_an_unknown_name_like_no_other_is_answered_with_all() -> None:
    with pytest.raises(UsageError, match="unknown shape 'x'; there are circle, square"):
        SHAPES.get("x")


@pytest.mark.parametrize("name", RUNTIMES.shipped)
def test_every_shipped_runtime_can_be_imported(name: str) -> None:
    assert callable(RUNTIMES.get(name))


def test_an_entry_point_adds_a_name(plugin: str) -> None:
    assert RUNTIMES.names() == [*RUNTIMES.shipped, plugin]
    assert RUNTIMES.get(plugin).__module__ == "burnish_linear"


def test_an_entry_point_never_replaces_what_is_shipped(plugin: str) -> None:
    """The plugin's package claims `onnx` too."""
    assert RUNTIMES.get("onnx").__module__ == "runtimes.engines.onnx.onnx"


@given(
    st.lists(
        st.text(st.characters(codec="ascii", categories=["L"]), min_size=4), min_size=1, max_size=5
    )
)
def test_a_known_word_is_its_own_nearest(words: list[str]) -> None:
    assert nearest(words[0], words) == f"; did you mean {words[0]!r}?"


def test_a_long_list_is_not_printed() -> None:
    assert nearest("x", [f"name{number}" for number in range(13)]) == ""


def test_nothing_is_near_to_an_empty_list() -> None:
    assert nearest("x", []) == ""
