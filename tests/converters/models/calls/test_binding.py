"""Inputs of a recipe become arguments of forward(): by name, in order, or as parts of containers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from converters.models.calls.binding import bind
from runtimes.errors import UsageError


@dataclasses.dataclass
class Pair:
    left: Any
    right: Any


class Named(NamedTuple):
    left: Any
    right: Any


def module_of(forward: Callable[..., Any]) -> nn.Module:
    return type("Model", (nn.Module,), {"forward": forward})()


def called(forward: Callable[..., Any], names: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments for inputs whose value is their own name."""
    values: Any = {name: name for name in names}
    return bind(module_of(forward), names).arguments(values)


def test_names_that_forward_has_bind_by_name() -> None:
    assert called(lambda self, a, b: 0, ["b", "a"]) == ([], {"b": "b", "a": "a"})


def test_a_single_input_binds_by_name_too() -> None:
    assert called(lambda self, query=None, key=None: 0, ["key"]) == ([], {"key": "key"})


def test_the_first_parameter_alone_goes_by_position() -> None:
    """Programs and libraries of one input have always taken it so."""
    assert called(lambda self, x, mask=None: 0, ["x"]) == (["x"], {})


def test_names_that_forward_has_not_go_in_order() -> None:
    assert called(lambda self, x, y: 0, ["image", "text"]) == (["image", "text"], {})
    assert called(lambda self, *inputs: 0, ["b", "a"]) == (["b", "a"], {})
    assert called(lambda self, *args, **kwargs: 0, ["b", "a"]) == (["b", "a"], {})


def test_any_number_of_arguments_is_not_plain() -> None:
    """torch.export counts *args as one."""
    assert not bind(module_of(lambda self, *inputs: 0), ["a", "b"]).plain
    assert bind(module_of(lambda self, x, y, *rest: 0), ["a", "b"]).plain


def test_names_with_dots_go_in_order_if_forward_has_none_of_them() -> None:
    assert called(lambda self, x, y: 0, ["a.0", "a.1"]) == (["a.0", "a.1"], {})


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["ids", "atention_mask"], "none 'atention_mask'; did you mean 'attention_mask'"),
        (["mask", "ids"], r"forward\(ids, attention_mask=None\) has a parameter 'ids' but none"),
        (["ids.0", "other.0"], "none 'other'"),
    ],
)
def test_a_mixture_is_an_error_with_the_nearest_name(names: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        called(lambda self, ids, attention_mask=None: 0, names)


def test_more_inputs_than_places() -> None:
    with pytest.raises(
        UsageError, match=r"named x or y, and in order it takes 1, not 2\. .*NAME\.0"
    ):
        called(lambda self, features: 0, ["x", "y"])
    with pytest.raises(UsageError, match=r"in order it takes 0, not 1; did you mean 'scale'\?"):
        called(lambda self, *, scale: 0, ["scales"])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["keys", "querys"], "no parameter 'keys'; did you mean 'key'.* it would be 'query'"),
        (["keys"], "did you mean 'key'"),
    ],
)
def test_misspelt_names_are_not_exchanged(names: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        called(lambda self, query=None, key=None: 0, names)


@pytest.mark.parametrize("names", [["querys", "keys"], ["input1", "input2"], ["keys", "image"]])
def test_names_of_their_own_still_go_in_order(names: list[str]) -> None:
    assert called(lambda self, query, key: 0, names) == (names, {})
    assert called(lambda self, input_0, input_1: 0, names) == (names, {})


def test_keyword_only_and_any_keywords() -> None:
    assert called(lambda self, *, x: 0, ["x"]) == ([], {"x": "x"})
    assert called(lambda self, **batch: 0, ["y", "x"]) == ([], {"y": "y", "x": "x"})
    assert called(lambda self, x, **rest: 0, ["x", "y"]) == ([], {"x": "x", "y": "y"})


def test_a_misspelt_name_is_no_keyword_of_its_own() -> None:
    with pytest.raises(UsageError, match="did you mean 'attention_mask'"):
        called(lambda self, ids, attention_mask=None, **rest: 0, ["ids", "atention_mask"])


def test_positional_only_parameters_get_their_own_input() -> None:
    def forward(self: Any, x: Any = None, y: Any = None, /, z: Any = None) -> None: ...

    assert called(forward, ["z", "y", "x"]) == (["x", "y"], {"z": "z"})
    assert called(forward, ["z", "x"]) == (["x"], {"z": "z"})
    with pytest.raises(UsageError, match="takes 'y' by position only, after 'x'"):
        called(forward, ["y"])


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (Any, ["xs.0", "xs.1"]),
        (list[Tensor], ["xs.0", "xs.1"]),
        (tuple[Tensor, Tensor], ("xs.0", "xs.1")),
        (tuple[Tensor, ...] | None, ("xs.0", "xs.1")),
    ],
)
def test_positions_are_elements_of_a_list_or_tuple(hint: Any, expected: Any) -> None:
    def forward(self: Any, xs: Any) -> None: ...

    forward.__annotations__["xs"] = hint
    assert called(forward, ["xs.1", "xs.0"]) == ([], {"xs": expected})


def test_the_elements_of_any_further_arguments_go_by_their_number() -> None:
    def forward(self: Any, x: Any, *rest: Any, scale: Any = 1) -> None: ...

    names = ["scale", "rest.1", "rest.0", "x"]
    assert called(forward, names) == (["x", "rest.0", "rest.1"], {"scale": "scale"})
    assert called(lambda self, *xs: 0, ["xs.1", "xs.0"]) == (["xs.0", "xs.1"], {})
    with pytest.raises(UsageError, match=r"none 'y'.* Those for \*rest are rest\.0, rest\.1"):
        called(forward, ["x", "y"])
    with pytest.raises(UsageError, match="takes 'rest' by position only, after 'x'"):
        called(forward, ["rest.0"])


@pytest.mark.parametrize("made", [dict, Pair, Named])
def test_keys_are_fields_of_a_dict_or_a_class(made: Any) -> None:
    def forward(self: Any, batch: Any) -> None: ...

    forward.__annotations__["batch"] = made
    expected = made(left="batch.left", right="batch.right")
    assert called(forward, ["batch.right", "batch.left"]) == ([], {"batch": expected})


def test_containers_in_containers() -> None:
    names = ["x", "batch.image", "batch.boxes.1.low", "batch.boxes.0.low"]
    batch = {
        "image": "batch.image",
        "boxes": [{"low": "batch.boxes.0.low"}, {"low": "batch.boxes.1.low"}],
    }
    assert called(lambda self, batch, x: 0, names) == ([], {"x": "x", "batch": batch})


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["xs.0", "xs.2"], r"there are 2 parts of 'xs', but no xs\.1"),
        (["xs", "xs.0"], r"'xs' is an input, and 'xs\.0' a part of it"),
    ],
)
def test_parts_that_do_not_fit(names: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        called(lambda self, xs: 0, names)


def test_annotations_that_cannot_be_read_are_left_alone() -> None:
    def forward(self: Any, xs: Any) -> None: ...

    forward.__annotations__["xs"] = "Missing[Tensor]"
    assert called(forward, ["xs.0"]) == ([], {"xs": ["xs.0"]})


def test_compiled_code_without_a_signature_is_called_in_order() -> None:
    scripted = torch.jit.script(nn.Linear(2, 2))
    assert len(bind(scripted, ["a"]).positional) == 1


@given(st.permutations(["a", "b", "c", "d"]), st.integers(1, 4))
def test_every_value_reaches_the_parameter_of_its_name(order: list[str], count: int) -> None:
    def forward(self: Any, a: Any = 0, b: Any = 0, c: Any = 0, d: Any = 0) -> dict[str, Any]:
        return {"a": a, "b": b, "c": c, "d": d}

    names = order[:count]
    values: Any = {name: name for name in names}
    args, kwargs = bind(module_of(forward), names).arguments(values)
    received = forward(None, *args, **kwargs)
    assert received == {name: name if name in names else 0 for name in "abcd"}
