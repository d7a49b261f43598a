"""Tensors in a result, and the names that the structure around them gives."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
import torch

from runtimes.engines.torch.outputs import flatten, is_plain, name_outputs, widened
from runtimes.errors import UsageError

T = torch.ones(1)


@dataclasses.dataclass
class Detection:
    logits: Any
    boxes: Any
    aux: Any = None


class Pair(NamedTuple):
    first: Any
    second: Any


@pytest.mark.parametrize(
    ("result", "names"),
    [
        (T, ["output_0"]),
        ((T, T), ["output_0", "output_1"]),
        ([T, (T, None, T)], ["output_0", "output_1", "output_2"]),
        ({"logits": T, "boxes": [T, T]}, ["logits", "boxes.0", "boxes.1"]),
        (Detection(T, (T, T)), ["logits", "boxes.0", "boxes.1"]),
        (Pair(T, Pair(T, T)), ["first", "second.first", "second.second"]),
        (OrderedDict(b=T, a={"deep": [{"x": T}]}), ["b", "a.deep.0.x"]),
        ((T, [{"boxes": T, "scores": T}]), ["output_0", "output_1.0.boxes", "output_1.0.scores"]),
        ([{"boxes": T}, {"boxes": T}], ["output_0.boxes", "output_1.boxes"]),
        ({"loss": None, "logits": T, 3: T}, ["logits", "3"]),
        ({}, []),
        (torch.ones(2, 2).max(0), ["output_0", "output_1"]),
    ],
)
def test_a_tensor_is_named_by_its_place(result: Any, names: list[str]) -> None:
    named = name_outputs(result)
    assert [name for name, _ in named] == names
    for tensor, (_, named_tensor) in zip(flatten(result), named, strict=True):
        assert tensor is named_tensor


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("text", "returns a str;"),
        ({"cache": object()}, "returns a object in cache;"),
        ((T, [3]), r"returns a int in 1\.0;"),
        (Detection, "returns a type;"),
    ],
)
def test_what_is_no_tensor_is_named_with_its_place(result: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        flatten(result)


@pytest.mark.parametrize(
    ("result", "plain"),
    [
        (T, True),
        ((T, [T, {"a": T}]), True),
        (Pair(T, T), False),
        (Detection(T, T), False),
        (OrderedDict(a=T), False),
        ((T, None), False),
        ({"a": T.bfloat16()}, False),
    ],
)
def test_plain_results_are_those_that_every_exporter_takes(result: Any, plain: bool) -> None:
    assert is_plain(result) is plain


def test_bfloat16_which_numpy_lacks_becomes_float32() -> None:
    assert widened(T.bfloat16()).dtype == torch.float32
    assert widened(T.half()).dtype == torch.float16
    assert widened(T) is T
