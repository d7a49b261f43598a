"""Sizes that eager refuses are named, with what to write instead."""

from __future__ import annotations

import pytest
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


def test_two_dimensions_that_must_be_equal_are_named() -> None:
    refused = [{"batch": 1, "n": 2, "m": 20}, {"batch": 2, "n": 3, "m": 2}]
    accepted = [{"batch": 1, "n": 4, "m": 4}, {"batch": 3, "n": 20, "m": 20}]
    message = describe_refusals(refused, accepted, "RuntimeError: no")
    assert message.endswith("; those that it takes have n = m: state it (`m: n`)")


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
