"""Regions of legal values: the ends of ranges, one sign, constants, scales."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runtimes.spec import DimRange, TensorSpec
from runtimes.validator.inputs.regions import not_finite, regions


def edges(spec: TensorSpec) -> dict[str, np.ndarray]:
    """The regions of one input, by name."""
    rng = np.random.default_rng(0)
    filled = regions({"x": spec}, {}, None, rng)
    return {f"edge {name}": arrays["x"] for name, _, arrays in filled}


integers = st.sampled_from(["int64", "int32", "int16", "int8", "uint8"])


@given(integers, st.integers(-200, 300), st.integers(0, 300))
def test_integers_have_two_edges_the_ends_of_what_is_legal(
    dtype: str, low: int, width: int
) -> None:
    limits = np.iinfo(dtype)
    assume(low <= limits.max and low + width >= limits.min)
    arrays = edges(TensorSpec(shape=(2, 3), dtype=dtype, range=(low, low + width)))
    assert list(arrays) == ["edge lowest", "edge highest"]
    assert np.unique(arrays["edge lowest"]).tolist() == [max(low, limits.min)]
    assert np.unique(arrays["edge highest"]).tolist() == [min(low + width, limits.max)]
    assert {array.dtype for array in arrays.values()} == {np.dtype(dtype)}


def test_the_largest_integers_do_not_wrap_around() -> None:
    arrays = edges(TensorSpec(shape=(1,), dtype="int64", range=(-(2.0**63), 2.0**63)))
    limits = np.iinfo("int64")
    assert [int(array[0]) for array in arrays.values()] == [limits.min, limits.max]


def test_booleans_are_all_false_and_all_true() -> None:
    arrays = edges(TensorSpec(shape=(2, 2), dtype="bool"))
    assert {name: np.unique(array).tolist() for name, array in arrays.items()} == {
        "edge lowest": [False],
        "edge highest": [True],
    }


@given(
    st.sampled_from(["float16", "float32", "float64"]),
    st.lists(st.floats(-1e3, 1e3, width=16), min_size=2),
)
def test_floats_with_a_range_have_its_ends_and_zero_only_where_it_is_legal(
    dtype: str, ends: list[float]
) -> None:
    low, high = min(ends), max(ends)
    arrays = edges(TensorSpec(shape=(2, 3), dtype=dtype, range=(low, high)))
    expected = {"edge lowest", "edge highest", "edge constant", "edge coarse", "edge faint"}
    expected |= {"edge zeros"} if low <= 0 <= high else set()
    expected |= {"edge negative"} if low < 0 else set()
    assert set(arrays) == expected
    assert np.unique(arrays["edge lowest"]).tolist() == [low]
    assert np.unique(arrays["edge highest"]).tolist() == [high]
    assert not arrays.get("edge zeros", np.zeros(1)).any()
    assert {array.dtype for array in arrays.values()} == {np.dtype(dtype)}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_without_a_range_are_zero_very_large_and_very_small(dtype: str) -> None:
    arrays = edges(TensorSpec(shape=(50, 50), dtype=dtype))
    expected = ["zeros", "constant", "negative", "coarse", "faint", "strong"]
    expected += ["larger", "large", "small"]
    expected += ["denormal"] * (dtype == "float32")
    assert list(arrays) == [f"edge {name}" for name in expected]
    assert len(np.unique(arrays["edge constant"])) == 1
    assert arrays["edge negative"].max() <= 0
    assert not arrays["edge zeros"].any()
    assert 900 < arrays["edge large"].astype(np.float64).std() < 1100
    assert 0.0009 < arrays["edge small"].astype(np.float64).std() < 0.0011
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_denormal_numbers_are_below_the_smallest_normal_one() -> None:
    values = edges(TensorSpec(shape=(50, 50)))["edge denormal"]
    assert 0 < np.abs(values).max() < np.finfo(np.float32).tiny


def test_inputs_that_have_no_such_region_are_drawn() -> None:
    inputs = {
        "ids": TensorSpec(shape=(50,), dtype="int64", range=(0, 9)),
        "x": TensorSpec(shape=(50,)),
    }
    filled = regions(inputs, {}, None, np.random.default_rng(0))
    arrays = {name: values for name, _, values in filled}
    assert {"zeros", "lowest", "highest"} <= set(arrays)
    assert len(np.unique(arrays["zeros"]["ids"])) > 1
    assert not arrays["zeros"]["x"].any()
    assert np.unique(arrays["highest"]["ids"]).tolist() == [9]
    assert abs(arrays["highest"]["x"].std() - 1) < 0.5


def test_a_mask_keeps_one_1_in_each_row_and_is_all_ones_once() -> None:
    spec = TensorSpec(shape=(2, 4), dtype="int64", kind="mask")
    assert {name: array.tolist() for name, array in edges(spec).items()} == {
        "edge lowest": [[1, 0, 0, 0]] * 2,
        "edge highest": [[1, 1, 1, 1]] * 2,
    }


def test_each_float_input_has_a_nan_or_an_infinity_of_each_sign() -> None:
    inputs = {"x": TensorSpec(shape=(5, 5)), "ids": TensorSpec(shape=(5,), dtype="int64")}
    arrays = dict(not_finite(inputs, {}, np.random.default_rng(0)))
    assert np.isnan(arrays["a NaN"]["x"]).sum() == 1
    infinite = arrays["an Inf"]["x"][np.isinf(arrays["an Inf"]["x"])]
    assert sorted(infinite) == [-np.inf, np.inf]


def test_a_single_number_is_infinite_once_and_integers_are_not() -> None:
    number = {"x": TensorSpec(shape=(1,))}
    arrays = dict(not_finite(number, {}, np.random.default_rng(0)))
    assert np.isposinf(arrays["an Inf"]["x"]).all()
    ids = {"ids": TensorSpec(shape=(5,), dtype="int64")}
    assert list(not_finite(ids, {}, np.random.default_rng(0))) == []


@pytest.mark.parametrize("range_", [None, (0, 255)])
def test_plain_pictures_have_one_value_in_each_channel_and_differ_from_row_to_row(
    range_: tuple[float, float] | None,
) -> None:
    inputs = {"x": TensorSpec(shape=("batch", 3, 9, 7), range=range_)}
    dims = {"batch": DimRange(max=32)}
    [plain] = [
        (sizes, arrays["x"])
        for name, sizes, arrays in regions(inputs, dims, "batch", np.random.default_rng(0))
        if name == "plain"
    ]
    sizes, values = plain
    assert sizes == {"batch": 8}
    assert values.shape == (8, 3, 9, 7)
    assert (values == values[:, :, :1, :1]).all()
    assert len(np.unique(values)) == 8 * 3


def test_a_batch_that_may_not_be_large_has_as_many_plain_rows_as_it_may() -> None:
    inputs = {"x": TensorSpec(shape=("batch", 3, 9))}
    dims = {"batch": DimRange(min=2, max=6, multiple_of=2)}
    filled = regions(inputs, dims, "batch", np.random.default_rng(0))
    assert {sizes["batch"] for name, sizes, _ in filled if name == "plain"} == {6}
