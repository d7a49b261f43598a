"""Sizes to probe cover every dimension and pairs of them, within their costs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.spec import DimRange, TensorSpec
from runtimes.validator.defaults import FREE_SIZES, PROBED_SIZES, SIZE_COST
from runtimes.validator.inputs.design import Budget, Work, design, size_budget
from tests.runtimes.validator.inputs.ranges import CACHE, PICTURE, ranges

dims = st.dictionaries(st.sampled_from(["batch", "height", "width"]), ranges(), max_size=3)


@given(dims)
def test_a_design_is_legal_and_repeats_nothing(dims: dict[str, DimRange]) -> None:
    chosen = design(dims, "batch" if "batch" in dims else None, Budget())
    assert all(dims[name].allows(size) for sizes in chosen for name, size in sizes.items())
    assert len({tuple(sizes.items()) for sizes in chosen}) == len(chosen)


@given(dims, st.integers(0, 30))
def test_more_sizes_only_add_to_those_that_are_always_tried(
    dims: dict[str, DimRange], count: int
) -> None:
    batch = "batch" if "batch" in dims else None
    always = design(dims, batch, Budget(0))
    more = design(dims, batch, Budget(count))
    assert more[: len(always)] == always
    assert len(more) <= len(always) + count


def test_pictures_are_tried_in_portrait_and_landscape_and_with_odd_edges() -> None:
    chosen = design(PICTURE, "batch", Budget())
    shapes = [(sizes["height"], sizes["width"]) for sizes in chosen]
    assert any(height > width for height, width in shapes)
    assert any(height < width for height, width in shapes)
    assert any(height % 2 for height, _ in shapes)
    assert any(width % 2 for _, width in shapes)


@pytest.mark.parametrize("first, second", list(itertools.combinations(PICTURE, 2)))
def test_every_pair_of_dimensions_is_tried_at_opposite_ends(first: str, second: str) -> None:
    chosen = {(sizes[first], sizes[second]) for sizes in design(PICTURE, "batch", Budget())}
    a, b = PICTURE[first], PICTURE[second]
    assert (a.min, b.max) in chosen
    assert (a.max, b.min) in chosen


def test_a_batch_is_tried_together_with_other_large_sizes() -> None:
    chosen = design(PICTURE, "batch", Budget())
    assert any(sizes["batch"] > 1 and sizes["height"] > 32 for sizes in chosen)


@pytest.mark.parametrize("wrong", [range(4, 32), range(2, 3), range(9, 10), range(17, 33)])
def test_wrong_batches_are_met(wrong: range) -> None:
    chosen = design({"batch": DimRange(max=32)}, "batch", Budget())
    assert any(sizes["batch"] in wrong for sizes in chosen)


def test_wrong_sequences_are_met() -> None:
    tokens = DimRange(min=1, opt=16, max=512)
    chosen = design({"batch": DimRange(max=8), "tokens": tokens}, "batch", Budget())
    assert any(65 <= sizes["tokens"] <= 127 for sizes in chosen)


def test_a_dimension_that_follows_from_others_has_that_size_in_every_probe() -> None:
    chosen = design(CACHE, None, Budget())
    assert len(chosen) > 10
    assert all(sizes["total"] == sizes["past"] + sizes["new"] for sizes in chosen)
    assert {"past": 1, "new": 8, "total": 9} in chosen


def test_wrong_pairs_of_pictures_are_met_within_the_costs() -> None:
    size = DimRange(min=16, opt=32, max=160)
    dims = {"batch": DimRange(max=32), "height": size, "width": size}
    chosen = [tuple(sizes.values()) for sizes in design(dims, "batch", Budget())]
    assert any(batch > 1 and height > 32 for batch, height, _ in chosen)
    assert any(height % 2 and width % 2 for _, height, width in chosen)
    assert any(batch == 9 for batch, _, _ in chosen)
    assert any(33 <= height < 64 for _, height, _ in chosen)
    assert any(65 <= height < 128 for _, height, _ in chosen)


def test_a_large_size_is_tried_beside_small_ones() -> None:
    dims = {"batch": DimRange(max=64), "height": DimRange(min=16, opt=64, max=256)}
    [sizes] = [sizes for sizes in design(dims, "batch", Budget()) if sizes["batch"] == 33]
    assert sizes["height"] == 16


@pytest.mark.parametrize("first, second", [("height", "width"), ("width", "height")])
def test_large_batches_are_tried_beside_large_sizes(first: str, second: str) -> None:
    size = DimRange(min=16, opt=32, max=160)
    dims = {"batch": DimRange(max=32), "height": size, "width": size}
    chosen = design(dims, "batch", Budget())
    assert any(sizes["batch"] > 16 and 32 < sizes[first] <= 64 for sizes in chosen)
    assert any(sizes["batch"] > 4 and sizes[first] > 64 for sizes in chosen)


SMALL = {"x": TensorSpec(shape=("batch", 20))}


def test_a_model_that_costs_nothing_is_tried_at_each_batch() -> None:
    dims = {"batch": DimRange(max=64)}
    budget = size_budget(SMALL, dims, None, Work(2_000, 8))
    chosen = design(dims, "batch", budget)
    assert sorted(sizes["batch"] for sizes in chosen) == list(range(2, 65))


def test_two_dimensions_of_a_model_that_costs_nothing_are_tried_whole() -> None:
    dims = {"batch": DimRange(max=8), "tokens": DimRange(opt=20, max=40)}
    chosen = design(dims, "batch", size_budget(SMALL, dims, None, Work(100_000, 60)))
    assert {sizes["tokens"] for sizes in chosen} == set(range(1, 41))
    assert len({tuple(sizes.values()) for sizes in chosen}) == len(chosen) > PROBED_SIZES


@pytest.mark.parametrize("work", [None, Work(10**7, 8), Work(10**12, 8)])
def test_a_model_that_costs_something_has_the_usual_budget(work: Work | None) -> None:
    assert size_budget(SMALL, {"batch": DimRange(max=64)}, None, work) == Budget()
    assert size_budget(SMALL, {"batch": DimRange(max=64)}, 7, work) == Budget(7, SIZE_COST)


def test_inputs_of_a_megabyte_are_not_free_however_little_is_computed() -> None:
    inputs = {"x": TensorSpec(shape=("batch", 1 << 18))}
    assert size_budget(inputs, {"batch": DimRange(max=64)}, None, Work(1, 1)) == Budget()


def test_a_count_of_the_user_is_the_most_also_for_a_model_that_costs_nothing() -> None:
    dims = {"batch": DimRange(max=64)}
    always = design(dims, "batch", Budget(0))
    assert len(design(dims, "batch", size_budget(SMALL, dims, 5, Work(10, 1)))) == len(always) + 5
    assert len(design(dims, "batch", size_budget(SMALL, dims, None, Work(10, 1)))) <= FREE_SIZES


def test_a_model_of_many_small_operators_is_tried_at_the_usual_number_of_sizes() -> None:
    dims = {"batch": DimRange(max=64)}
    assert size_budget(SMALL, dims, None, Work(10, 5_000)).count == PROBED_SIZES
    assert PROBED_SIZES < size_budget(SMALL, dims, None, Work(10, 300)).count < FREE_SIZES
