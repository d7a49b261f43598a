"""YAML is read no further than a recipe can be right."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from converters.recipe.text.loader import LimitedLoader, Unread

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


def read(text: str, most_nodes: int = 1000) -> Any:
    return LimitedLoader(text, most_nodes).get_single_data()


@given(values)
def test_it_reads_what_pyyaml_reads(value: Any) -> None:
    assert read(yaml.safe_dump(value)) == value


@pytest.mark.parametrize(
    ("text", "line", "keys"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, ("a",)),
        ("a:\n  - {b: 1}\n  - {b: 1, c: {d: 1, d: 2}}", 3, ("a", 1, "c", "d")),
        ("{a: 1, 'a': 2}", 1, ("a",)),
    ],
)
def test_a_key_that_is_given_twice_is_named_with_its_path(
    text: str, line: int, keys: tuple[str | int, ...]
) -> None:
    with pytest.raises(Unread, match="is given twice") as caught:
        read(text)
    assert (caught.value.line, caught.value.keys) == (line, keys)


def test_nothing_behind_a_key_that_is_given_twice_is_read() -> None:
    with pytest.raises(Unread, match="is given twice"):
        read("a: 1\na: 2\n" + "this: is: no: YAML\n" * 10)


def test_the_same_key_in_two_mappings_and_keys_of_two_types_are_two() -> None:
    assert read("{a: {b: 1}, c: {b: 1}}") == {"a": {"b": 1}, "c": {"b": 1}}
    assert read("{1: a, '1': b}") == {1: "a", "1": "b"}


def test_a_document_has_so_many_nodes_at_most() -> None:
    assert read("[1, 2, 3]", most_nodes=4) == [1, 2, 3]
    with pytest.raises(Unread, match="too large") as caught:
        read("[1, 2,\n3, 4]", most_nodes=4)
    assert caught.value.line == 2
