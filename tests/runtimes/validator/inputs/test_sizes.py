"""Sizes to probe cover every dimension and pairs of them, within their costs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runtimes.spec import DimRange, best_sizes, export_sizes
from runtimes.validator.defaults import PROBED_SIZES
from runtimes.validator.inputs.sizes import (
    candidates,
    design,
    legal_sizes,
    sizes_tried,
    unseen_size,
)


@st.composite
def ranges(draw: st.DrawFn) -> DimRange:
    step = draw(st.sampled_from([1, 1, 2, 8]))
    low, best, high = sorted(draw(st.lists(st.integers(1, 40), min_size=3, max_size=3)))
    opt = draw(st.sampled_from([None, best * step]))
    return DimRange(min=low * step, opt=opt, max=high * step, multiple_of=step)


dims = st.dictionaries(st.sampled_from(["batch", "height", "width"]), ranges(), max_size=3)
PICTURE = {
    "batch": DimRange(max=4),
    "height": DimRange(min=16, opt=32, max=64),
    "width": DimRange(min=16, opt=32, max=64),
}


def exported(dim: DimRange) -> int:
    return export_sizes({"batch": dim})["batch"]


@given(ranges())
def test_the_unseen_size_is_legal(dim: DimRange) -> None:
    assert dim.allows(unseen_size(dim, exported(dim)))


@given(ranges())
def test_the_unseen_size_is_not_the_exported_one_if_the_range_has_another(dim: DimRange) -> None:
    assume(dim.count > 1)
    assert unseen_size(dim, exported(dim)) != exported(dim)


@given(ranges())
def test_with_three_sizes_the_unseen_one_is_not_the_best_either(dim: DimRange) -> None:
    assume(dim.count > 2)
    assert unseen_size(dim, exported(dim)) != dim.best


@given(ranges())
def test_candidates_are_legal_and_hold_the_ends(dim: DimRange) -> None:
    sizes = candidates(dim, exported(dim))
    assert all(map(dim.allows, sizes))
    assert len(set(sizes)) == len(sizes)
    assert {dim.min, dim.max} <= set(sizes)


@given(ranges())
def test_a_small_range_is_a_candidate_whole(dim: DimRange) -> None:
    assume(dim.count <= 32)
    assert len(candidates(dim, exported(dim))) == dim.count


def test_every_range_between_two_powers_of_two_has_a_candidate() -> None:
    sizes = candidates(DimRange(max=512), 2)
    for power in (4, 8, 16, 32, 64, 128, 256):
        assert any(power < size < 2 * power for size in sizes)


@given(dims)
def test_a_design_is_legal_and_repeats_nothing(dims: dict[str, DimRange]) -> None:
    chosen = design(dims, "batch" if "batch" in dims else None, PROBED_SIZES)
    assert all(dims[name].allows(size) for sizes in chosen for name, size in sizes.items())
    assert len({tuple(sizes.items()) for sizes in chosen}) == len(chosen)


@given(dims, st.integers(0, 30))
def test_more_sizes_only_add_to_those_that_are_always_tried(
    dims: dict[str, DimRange], count: int
) -> None:
    batch = "batch" if "batch" in dims else None
    always = design(dims, batch, 0)
    more = design(dims, batch, count)
    assert more[: len(always)] == always
    assert len(more) <= len(always) + count


def test_pictures_are_tried_in_portrait_and_landscape_and_with_odd_edges() -> None:
    chosen = design(PICTURE, "batch", PROBED_SIZES)
    shapes = [(sizes["height"], sizes["width"]) for sizes in chosen]
    assert any(height > width for height, width in shapes)
    assert any(height < width for height, width in shapes)
    assert any(height % 2 for height, _ in shapes)
    assert any(width % 2 for _, width in shapes)


@pytest.mark.parametrize("first, second", list(itertools.combinations(PICTURE, 2)))
def test_every_pair_of_dimensions_is_tried_at_opposite_ends(first: str, second: str) -> None:
    chosen = {(sizes[first], sizes[second]) for sizes in design(PICTURE, "batch", PROBED_SIZES)}
    a, b = PICTURE[first], PICTURE[second]
    assert (a.min, b.max) in chosen
    assert (a.max, b.min) in chosen


def test_a_batch_is_tried_together_with_other_large_sizes() -> None:
    chosen = design(PICTURE, "batch", PROBED_SIZES)
    assert any(sizes["batch"] > 1 and sizes["height"] > 32 for sizes in chosen)


@pytest.mark.parametrize("wrong", [range(4, 32), range(2, 3), range(9, 10), range(17, 33)])
def test_wrong_batches_are_met(wrong: range) -> None:
    chosen = design({"batch": DimRange(max=32)}, "batch", PROBED_SIZES)
    assert any(sizes["batch"] in wrong for sizes in chosen)


def test_wrong_sequences_are_met() -> None:
    tokens = DimRange(min=1, opt=16, max=512)
    chosen = design({"batch": DimRange(max=8), "tokens": tokens}, "batch", PROBED_SIZES)
    assert any(65 <= sizes["tokens"] <= 127 for sizes in chosen)


CACHE = {
    "past": DimRange(min=1, opt=16, max=64),
    "new": DimRange(max=8),
    "total": DimRange(min=2, opt=17, max=72, equals="past + new"),
}


def test_a_dimension_that_follows_from_others_has_that_size_in_every_probe() -> None:
    chosen = design(CACHE, None, PROBED_SIZES)
    assert len(chosen) > 10
    assert all(sizes["total"] == sizes["past"] + sizes["new"] for sizes in chosen)
    assert {"past": 1, "new": 8, "total": 9} in chosen


def test_a_small_range_is_evaluated_whole() -> None:
    assert len(legal_sizes(PICTURE, ["height", "width"])) == 49 * 49
    related = legal_sizes(CACHE, ["total", "new"])
    assert len(related) == 64 * 8
    assert all(1 <= sizes["total"] - sizes["new"] <= 64 for sizes in related)


def test_a_large_range_is_evaluated_at_a_sample_that_repeats() -> None:
    huge = {name: DimRange(min=1, opt=7, max=4096) for name in ("a", "b", "c")}
    drawn = legal_sizes(huge, ["a", "b", "c"], limit=500)
    assert len(drawn) == 500
    assert drawn == legal_sizes(huge, ["a", "b", "c"], limit=500)
    assert all(dim.allows(sizes[name]) for sizes in drawn for name, dim in huge.items())


def test_tried_sizes_are_counted_beside_the_legal_ones() -> None:
    probes = [best_sizes(CACHE), *design(CACHE, None, PROBED_SIZES), best_sizes(CACHE)]
    tried = sizes_tried(probes, CACHE)
    assert tried is not None
    assert (tried.tried, tried.legal) == (len(probes) - 1, 64 * 8)
    assert list(tried.dims) == ["past", "new"]
    assert tried.dims["new"].tried == list(range(1, 9))
    assert tried.dims["past"].legal == 64
    assert sizes_tried([{}], {}) is None


def test_wrong_pairs_of_pictures_are_met_within_the_costs() -> None:
    size = DimRange(min=16, opt=32, max=160)
    dims = {"batch": DimRange(max=32), "height": size, "width": size}
    chosen = [tuple(sizes.values()) for sizes in design(dims, "batch", PROBED_SIZES)]
    assert any(batch > 1 and height > 32 for batch, height, _ in chosen)
    assert any(height % 2 and width % 2 for _, height, width in chosen)
    assert any(batch == 9 for batch, _, _ in chosen)
    assert any(33 <= height < 64 for _, height, _ in chosen)
    assert any(65 <= height < 128 for _, height, _ in chosen)


def test_a_large_size_is_tried_beside_small_ones() -> None:
    dims = {"batch": DimRange(max=64), "height": DimRange(min=16, opt=64, max=256)}
    [sizes] = [sizes for sizes in design(dims, "batch", PROBED_SIZES) if sizes["batch"] == 33]
    assert sizes["height"] == 16


@given(ranges())
def test_the_unseen_size_is_odd_if_it_can_be(dim: DimRange) -> None:
    assume(dim.count > 4)
    size = unseen_size(dim, exported(dim))
    assert size // dim.multiple_of % 2 or size in (3, 5, 7)
