"""Tensor specifications and the one check of what a session is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from runtimes.spec import (
    Arrays,
    DimRange,
    Dims,
    RelatedDims,
    Specs,
    TensorSpec,
    best_sizes,
    complete_sizes,
    export_sizes,
    free_dims,
    graph_outputs,
    mismatch,
    profile_shapes,
)

DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
DIMS = {"batch": DimRange(min=2, max=5), "tokens": DimRange(min=1, opt=4, max=8)}
IMAGE = {"image": TensorSpec(shape=("batch", 3, 4))}

sizes = st.integers(1, 6) | st.sampled_from(sorted(DIMS))
specs = st.builds(
    TensorSpec, shape=st.lists(sizes, max_size=4).map(tuple), dtype=st.sampled_from(DTYPES)
)
chosen = st.fixed_dictionaries({name: st.integers(dim.min, dim.max) for name, dim in DIMS.items()})


def arrays_for(wanted: Specs, chosen: dict[str, int]) -> Arrays:
    return {name: np.zeros(spec.concrete(chosen), spec.dtype) for name, spec in wanted.items()}


@given(st.dictionaries(st.sampled_from("abc"), specs, min_size=1), chosen)
def test_arrays_made_from_the_specs_fit(wanted: Specs, chosen: dict[str, int]) -> None:
    assert mismatch(arrays_for(wanted, chosen), wanted, DIMS) is None


@given(specs, chosen, st.sampled_from(DTYPES))
def test_another_dtype_is_named_with_the_one_expected(
    spec: TensorSpec, chosen: dict[str, int], dtype: str
) -> None:
    problem = mismatch({"x": np.zeros(spec.concrete(chosen), dtype)}, {"x": spec}, DIMS)
    if dtype == spec.dtype:
        assert problem is None
    else:
        assert problem == f"'x' has dtype {dtype}; expected {spec}"


@given(specs, chosen, st.data())
def test_one_wrong_size_anywhere_is_found(
    spec: TensorSpec, chosen: dict[str, int], data: st.DataObject
) -> None:
    assume(spec.shape)
    shape = list(spec.concrete(chosen))
    axis = data.draw(st.integers(0, len(shape) - 1))
    shape[axis] = 99  # outside every range, and no fixed size
    problem = mismatch({"x": np.zeros(shape, spec.dtype)}, {"x": spec}, DIMS)
    assert problem is not None
    assert "99" in problem
    assert str(spec) in problem


@given(specs, chosen)
def test_another_rank_is_found(spec: TensorSpec, chosen: dict[str, int]) -> None:
    array = np.zeros((*spec.concrete(chosen), 1), spec.dtype)
    problem = mismatch({"x": array}, {"x": spec}, DIMS)
    assert problem is not None
    assert f"has {array.ndim} dimensions" in problem


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "missing 'image'; expected image: float32[batch, 3, 4]"),
        (
            {"img": np.zeros(3), "image": np.zeros(3)},
            "unknown name 'img'; expected image: float32[batch, 3, 4]",
        ),
        ({"image": [[1.0]]}, "'image' is a list, not a NumPy array; expected float32[batch, 3, 4]"),
        (
            {"image": np.zeros((2, 3, 5), np.float32)},
            "'image' has shape [2, 3, 5]: axis 2 is 5, not 4; expected float32[batch, 3, 4]",
        ),
        (
            {"image": np.zeros((6, 3, 4), np.float32)},
            "'image' has batch=6, outside 2..5; expected float32[batch, 3, 4]",
        ),
        (
            {"image": np.zeros((1, 3, 4), np.float32)},
            "'image' has batch=1, outside 2..5; expected float32[batch, 3, 4]",
        ),
        (
            {"image": np.zeros((2, 3, 4), ">f4")},
            "'image' has dtype >f4; expected float32[batch, 3, 4]",
        ),
    ],
)
def test_the_message_says_what_was_expected(arrays: dict[str, Any], message: str) -> None:
    assert mismatch(arrays, IMAGE, DIMS) == message


def test_a_dimension_that_appears_twice_has_one_size() -> None:
    wanted = {"a": TensorSpec(shape=("batch", 1)), "b": TensorSpec(shape=(1, "batch"))}
    arrays = {"a": np.zeros((2, 1), np.float32), "b": np.zeros((1, 3), np.float32)}
    assert mismatch(arrays, wanted, DIMS) == (
        "'b' has batch=3, but another dimension has batch=2; expected float32[1, batch]"
    )


@given(st.integers(1, 50), st.none() | st.integers(1, 50), st.integers(1, 50))
def test_a_range_is_legal_exactly_when_its_sizes_rise(low: int, opt: int | None, high: int) -> None:
    legal = low <= (low if opt is None else opt) <= high
    if legal:
        assert DimRange(min=low, opt=opt, max=high).bounds == (
            low,
            low if opt is None else opt,
            high,
        )
    else:
        with pytest.raises(ValidationError, match="sizes must rise"):
            DimRange(min=low, opt=opt, max=high)


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_below_one_is_refused(size: int) -> None:
    with pytest.raises(ValidationError, match="a size must be at least 1"):
        TensorSpec(shape=(size,))


def test_a_range_of_values_is_low_then_high() -> None:
    with pytest.raises(ValidationError, match=r"not \[2, 1\]"):
        TensorSpec(shape=(1,), range=(2, 1))


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        TensorSpec.model_validate({"shape": [1], "dtyp": "int8"})


@given(specs)
def test_a_profile_has_the_smallest_the_best_and_the_largest_shape(spec: TensorSpec) -> None:
    dims: Dims = DIMS
    shapes = profile_shapes(spec, dims)
    assert all(small <= best <= large for small, best, large in zip(*shapes, strict=True))
    assert all(
        mismatch({"x": np.zeros(shape, spec.dtype)}, {"x": spec}, dims) is None for shape in shapes
    )


@given(specs)
def test_a_spec_survives_json(spec: TensorSpec) -> None:
    assert TensorSpec.model_validate_json(spec.model_dump_json()) == spec


CACHE = {
    "past": {"min": 1, "opt": 4, "max": 32},
    "new": {"max": 8},
    "total": "past + new",
}
MASK = {"past": TensorSpec(shape=("past",)), "mask": TensorSpec(shape=("new", "total"))}


def read(dims: Any) -> Dims:
    return TypeAdapter(RelatedDims).validate_python(dims)


def test_a_relation_has_the_range_that_follows() -> None:
    total = read(CACHE)["total"]
    assert (total.bounds, total.equals) == ((2, 5, 40), "past + new")
    assert list(read(CACHE)) == ["past", "new", "total"]


def test_sizes_that_follow_are_kept_by_all_sizes_that_are_chosen() -> None:
    dims = read(CACHE)
    for sizes in (
        best_sizes(dims),
        export_sizes(dims),
        complete_sizes({"past": 7, "new": 3}, dims),
    ):
        assert sizes["total"] == sizes["past"] + sizes["new"]
    assert list(free_dims(dims)) == ["past", "new"]


def test_a_session_refuses_sizes_that_do_not_follow() -> None:
    arrays = {"past": np.zeros(7, np.float32), "mask": np.zeros((2, 9), np.float32)}
    assert mismatch(arrays, MASK, read(CACHE)) is None
    arrays["mask"] = np.zeros((2, 8), np.float32)
    assert mismatch(arrays, MASK, read(CACHE)) == (
        "total=8, but total is past + new: 9 for past=7, new=2"
    )


def test_a_relation_survives_json_and_plain_ranges_are_written_as_before() -> None:
    dims = read(CACHE)
    written = {name: dim.model_dump(mode="json") for name, dim in dims.items()}
    assert read(written) == dims
    assert "equals" not in written["past"]


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ({"total": "past + 1"}, "total: past . 1: 'past' has no range of its own"),
        ({"past": {"max": 4}, "a": "past + 1", "b": "a + 1"}, "b: a . 1: 'a' has no range"),
        ({"past": {"max": 4}, "rest": "past - 3"}, "rest: past - 3 can be -2"),
        ({"past": {"max": 4}, "rest": "past / 2"}, "rest: 'past / 2' is no relation"),
        ({"past": {"max": 0}, "total": "past + 1"}, "greater than 0"),
    ],
)
def test_a_relation_that_gives_no_size_is_refused(dims: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        read(dims)


def test_a_manifest_cannot_state_another_range_than_its_relation_gives() -> None:
    forged = {**CACHE, "total": {"min": 1, "max": 10**9, "equals": "past + new"}}
    assert read(forged) == read(CACHE)


names = st.lists(st.sampled_from(["x", "state", "state_out", "state_out_out", "y"]), unique=True)


@given(names, names)
def test_names_in_a_graph_are_unique_and_change_only_where_they_must(
    inputs: list[str], outputs: list[str]
) -> None:
    inner = graph_outputs(inputs, outputs)
    assert list(inner) == outputs
    assert len({*inputs, *inner.values()}) == len(inputs) + len(outputs)
    for name, inner_name in inner.items():
        assert (inner_name == name) == (name not in inputs)


def test_a_state_that_is_passed_on_has_a_name_of_its_own_in_a_graph() -> None:
    assert graph_outputs(["x", "state"], ["y", "state"]) == {"y": "y", "state": "state_out"}
