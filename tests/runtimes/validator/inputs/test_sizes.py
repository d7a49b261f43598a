"""Candidates of each dimension, and accounts of the sizes that probes have."""

from __future__ import annotations

from hypothesis import assume, given

from runtimes.spec import DimRange, best_sizes, export_sizes
from runtimes.validator.inputs.design import Budget, design
from runtimes.validator.inputs.sizes import candidates, legal_sizes, sizes_tried, unseen_size
from tests.runtimes.validator.inputs.ranges import CACHE, PICTURE, ranges


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


@given(ranges())
def test_the_unseen_size_is_odd_if_it_can_be(dim: DimRange) -> None:
    assume(dim.count > 4)
    size = unseen_size(dim, exported(dim))
    assert size // dim.multiple_of % 2 or size in (3, 5, 7)


def test_tried_sizes_are_counted_beside_the_legal_ones() -> None:
    probes = [best_sizes(CACHE), *design(CACHE, None, Budget()), best_sizes(CACHE)]
    tried = sizes_tried(probes, CACHE)
    assert tried is not None
    assert (tried.tried, tried.legal) == (len(probes) - 1, 64 * 8)
    assert list(tried.dims) == ["past", "new"]
    assert tried.dims["new"].tried == list(range(1, 9))
    assert tried.dims["past"].legal == 64
    assert sizes_tried([{}], {}) is None
