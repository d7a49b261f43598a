"""Sizes that eager refuses are named, with what to write instead."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from converters.models.facts import study
from converters.models.runs.refusals import describe_refusals
from runtimes.errors import UsageError
from runtimes.spec import DimRange, TensorSpec
from runtimes.validator.probes import synthetic_probes


def test_the_unit_of_all_accepted_sizes_is_proposed() -> None:
    accepted = [{"batch": 3, "height": 16}, {"batch": 1, "height": 40}]
    refused = [{"batch": 1, "height": 17}]
    message = describe_refusals(refused, accepted, "RuntimeError: no")
    assert message == (
        "the eager model refuses 1 of 3 sizes of its own `dims:`: batch=1, height=17 "
        "(RuntimeError: no); those that it takes fit `height: {multiple_of: 8}`: state this, or a "
        "smaller unit"
    )


def test_without_a_unit_the_range_is_to_be_narrowed() -> None:
    message = describe_refusals([{"n": 9}], [{"n": 3}, {"n": 4}], "ValueError: n > 8")
    assert message.endswith("n=9 (ValueError: n > 8); narrow `dims:`")


def test_a_unit_that_does_not_explain_every_refusal_is_not_proposed() -> None:
    refused = [{"past": 1, "total": 3}, {"past": 3, "total": 8}]
    message = describe_refusals(refused, [{"past": 1, "total": 2}], "RuntimeError: no")
    assert message.endswith("; narrow `dims:`")


CACHE = [
    {"batch": 2, "past": 16, "new": 1, "total": 17},
    {"batch": 1, "past": 3, "new": 14, "total": 17},
    {"batch": 1, "past": 3, "new": 3, "total": 1},
]


@pytest.mark.parametrize("accepted", [CACHE, CACHE[:1]])
def test_a_relation_is_proposed_if_it_tells_the_sizes_apart(accepted: list[dict[str, int]]) -> None:
    refused = [
        {"batch": 1, "past": 16, "new": 1, "total": 16},
        {"batch": 2, "past": 1, "new": 8, "total": 17},
        {"batch": 2, "past": 3, "new": 1, "total": 34},
    ]
    message = describe_refusals(refused, accepted, "RuntimeError: no")
    assert message.endswith(
        "; those that it takes fit `total: past + new`: state this relation in `dims:`"
    )
    refused.append({"batch": 1, "past": 2, "new": 2, "total": 4})
    assert "past + new" not in describe_refusals(refused, accepted, "RuntimeError: no")


@pytest.mark.parametrize(
    ("relation", "total"),
    [
        ("total: past", lambda n: n),
        ("total: past + 2", lambda n: n + 2),
        ("total: 2 * past", lambda n: 2 * n),
    ],
)
def test_a_relation_to_one_dimension_needs_two_sizes(
    relation: str, total: Callable[[int], int]
) -> None:
    accepted = [{"past": size, "total": total(size)} for size in (6, 9)]
    refused = [{"past": size, "total": total(size) + 3} for size in (1, 4)]
    assert f"fit `{relation}`" in describe_refusals(refused, accepted, "E: e")
    assert f"fit `{relation}`" not in describe_refusals(refused, accepted[:1], "E: e")


class Cached(nn.Module):
    """Adds a mask over past and new keys."""

    def forward(self, past, new, mask):  # type: ignore[no-untyped-def]
        return torch.cat([past, new], 1) + mask


def test_a_model_whose_mask_is_as_long_as_two_inputs_is_told_so() -> None:
    inputs = {name: TensorSpec(shape=(1, name)) for name in ("past", "new", "mask")}
    dims = {
        "past": DimRange(min=1, opt=16, max=64),
        "new": DimRange(min=1, opt=2, max=8),
        "mask": DimRange(min=1, opt=18, max=72),
    }
    with pytest.raises(UsageError, match=r"fit `mask: past \+ new`"):
        study(Cached(), inputs, dims, synthetic_probes(inputs, dims), None, None)


def test_two_dimensions_that_must_be_equal_are_named() -> None:
    refused = [{"batch": 1, "n": 2, "m": 20}, {"batch": 2, "n": 3, "m": 2}]
    accepted = [{"batch": 1, "n": 4, "m": 4}, {"batch": 3, "n": 20, "m": 20}]
    message = describe_refusals(refused, accepted, "RuntimeError: no")
    assert message.endswith("; those that it takes fit `m: n`: state this relation in `dims:`")


def test_only_some_sizes_are_listed() -> None:
    refused = [{"n": size} for size in range(5, 15)]
    assert "n=5; n=6; n=7, ... (" in describe_refusals(refused, [{"n": 4}], "E: e")


class Strided(nn.Module):
    """Takes multiples of eight, as a U-Net of three levels does."""

    def forward(self, x):  # type: ignore[no-untyped-def]
        return x + nn.functional.interpolate(nn.functional.avg_pool2d(x, 8), scale_factor=8)


def _studied(dim: DimRange) -> None:
    inputs, dims = {"x": TensorSpec(shape=("batch", 1, "size", "size"))}, {"size": dim}
    dims = {"batch": DimRange(max=2), **dims}
    study(Strided(), inputs, dims, synthetic_probes(inputs, dims), None, None)


def test_a_model_that_refuses_sizes_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"size: \{multiple_of: 8\}"):
        _studied(DimRange(min=16, opt=32, max=64))


def test_with_the_unit_stated_it_is_accepted() -> None:
    _studied(DimRange(min=16, opt=32, max=64, multiple_of=8))
