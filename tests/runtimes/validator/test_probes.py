"""Probes: seeded, legal, at every size that matters, and at the limits of what is legal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runtimes.spec import DimRange, TensorSpec, export_sizes, mismatch
from runtimes.validator.defaults import SYNTHETIC_PROBES
from runtimes.validator.probes import (
    batch_dimension,
    draw,
    synthetic_probes,
    synthetic_samples,
    with_limits,
)
from runtimes.validator.sizes import unseen_size


@st.composite
def ranges(draw: st.DrawFn) -> DimRange:
    low, best, high = sorted(draw(st.lists(st.integers(1, 40), min_size=3, max_size=3)))
    return DimRange(min=low, opt=draw(st.sampled_from([None, best])), max=high)


dims = st.dictionaries(st.sampled_from(["batch", "tokens"]), ranges(), max_size=2)


@given(ranges())
def test_an_exporter_traces_with_a_legal_size_that_is_not_one(dim: DimRange) -> None:
    size = export_sizes({"batch": dim})["batch"]
    assert dim.min <= size <= dim.max
    assert size > 1 or dim.max == 1


@given(dims, st.integers(0, 2**32))
def test_every_probe_fits_the_inputs(dims: dict[str, DimRange], seed: int) -> None:
    inputs = {"x": TensorSpec(shape=(*dims, 3)), "mask": TensorSpec(shape=(*dims,), dtype="bool")}
    for probe in synthetic_probes(inputs, dims, seed):
        assert mismatch(probe.inputs, inputs, dims) is None
        assert {
            name: probe.inputs["x"].shape[axis] for axis, name in enumerate(dims)
        } == probe.sizes


@given(dims, st.booleans())
def test_every_dimension_is_probed_at_its_ends_and_at_an_unseen_size(
    dims: dict[str, DimRange], batch_first: bool
) -> None:
    """Whether or not one of them is a batch."""
    shape = (*dims, 3) if batch_first else (3, *dims)
    probes = synthetic_probes({"x": TensorSpec(shape=shape)}, dims)
    for name, dim in dims.items():
        sizes = {probe.sizes[name] for probe in probes}
        assert {dim.min, dim.max, unseen_size(dim, export_sizes(dims)[name])} <= sizes
        assert min(sizes) == dim.min
        assert max(sizes) == dim.max


def test_a_dynamic_batch_gets_probes_that_say_their_sizes() -> None:
    inputs = {"x": TensorSpec(shape=("batch", 3))}
    probes = synthetic_probes(inputs, {"batch": DimRange(max=16)})
    judged = [probe for probe in probes if probe.kind != "edge"]
    samples, sized = judged[:SYNTHETIC_PROBES], judged[SYNTHETIC_PROBES:]
    assert [probe.sizes["batch"] for probe in samples] == [1] * SYNTHETIC_PROBES
    assert [probe.name for probe in sized[:2]] == ["size batch=3", "size batch=16"]
    assert [probe.rows for probe in sized[:2]] == [(0, 1, 2), (0, 1, 2, 3)]
    assert {probe.kind for probe in sized} == {"size"}


@given(dims, st.integers(0, 2**32))
def test_no_two_rows_of_a_batch_are_equal(dims: dict[str, DimRange], seed: int) -> None:
    inputs = {"x": TensorSpec(shape=("batch", 5)), "ids": TensorSpec(shape=("batch",))}
    for probe in synthetic_probes(inputs, {"batch": DimRange(max=40), **dims}, seed):
        if probe.kind == "size":
            assert len(np.unique(probe.inputs["x"], axis=0)) == len(probe.inputs["x"])


def test_a_fixed_shape_gets_no_other_sizes() -> None:
    kinds = [probe.kind for probe in synthetic_probes({"x": TensorSpec(shape=(2, 3))}, {})]
    assert kinds[:SYNTHETIC_PROBES] == ["noise"] * SYNTHETIC_PROBES
    assert set(kinds[SYNTHETIC_PROBES:]) == {"edge"}


@given(ranges(), st.integers(1, 6), st.booleans())
def test_batches_are_made_of_the_first_rows_of_the_samples_with_their_labels(
    dim: DimRange, count: int, labelled: bool
) -> None:
    inputs, dims = (
        {"x": TensorSpec(shape=("batch", 2)), "flag": TensorSpec(shape=("batch",))},
        {"batch": dim},
    )
    plain = synthetic_samples(inputs, dims, count=count)
    samples = []
    for index, sample in enumerate(plain):
        labels = (10 + index, *[0] * (dim.best - 1)) * labelled
        samples.append(replace(sample, kind="data", labels=labels))
    probes = with_limits(samples, inputs, dims)
    for probe, sample in zip(probes, samples, strict=False):
        assert probe is sample, "the samples come first"
    batches = [probe for probe in probes if probe.rows]
    assert {probe.sizes["batch"] for probe in batches} >= {dim.min, dim.max} - {dim.best}
    for probe in batches:
        rows = min(probe.sizes["batch"], len(samples))
        assert (probe.kind, len(probe.rows)) == ("size", rows)
        assert probe.labels == tuple(10 + row for row in probe.rows) * labelled
        for name in inputs:
            for index, row in enumerate(probe.rows):
                np.testing.assert_array_equal(
                    probe.inputs[name][index], samples[row].inputs[name][0]
                )


def test_other_dimensions_than_the_batch_get_noise_at_their_sizes() -> None:
    inputs = {"x": TensorSpec(shape=("batch", "tokens"))}
    dims = {"batch": DimRange(max=4), "tokens": DimRange(min=2, max=9)}
    sized = [probe for probe in synthetic_probes(inputs, dims) if probe.kind == "size"]
    assert {(probe.sizes["tokens"] == 2, bool(probe.rows)) for probe in sized} == {
        (True, True),
        (False, False),
    }


@pytest.mark.parametrize(
    ("shapes", "batch"),
    [
        ([("batch", 3)], "batch"),
        ([("n", 3), ("n",)], "n"),
        ([("batch", 3), (1, 3)], None),
        ([("batch", "batch")], None),
        ([(3, "batch")], None),
        ([()], None),
        ([("a", 3), ("b", 3)], None),
    ],
)
def test_the_batch_is_what_comes_first_everywhere_and_nowhere_else(
    shapes: list[tuple[int | str, ...]], batch: str | None
) -> None:
    assert (
        batch_dimension({str(index): TensorSpec(shape=shape) for index, shape in enumerate(shapes)})
        == batch
    )


def test_the_seed_decides() -> None:
    def values(seed: int) -> np.ndarray:
        return synthetic_probes({"x": TensorSpec(shape=(2, 3))}, {}, seed)[0].inputs["x"]

    np.testing.assert_array_equal(values(7), values(7))
    assert not np.array_equal(values(7), values(8))


def test_probes_differ_from_each_other() -> None:
    probes = synthetic_probes({"x": TensorSpec(shape=(2, 3))}, {})
    assert len({probe.inputs["x"].tobytes() for probe in probes}) == len(probes)
    assert len({probe.name for probe in probes}) == len(probes)


@given(
    st.integers(-100, 100),
    st.integers(0, 27),
    st.sampled_from(["float32", "float64", "int64", "int32", "int16", "int8"]),
)
def test_values_stay_in_the_range(low: int, width: int, dtype: str) -> None:
    spec = TensorSpec(shape=(50,), dtype=dtype, range=(low, low + width))
    values = draw(spec, {}, np.random.default_rng(0))
    assert values.dtype == dtype
    assert values.min() >= low
    assert values.max() <= low + width


def test_integers_reach_both_ends_of_the_range() -> None:
    spec = TensorSpec(shape=(500,), dtype="uint8", range=(3, 6))
    assert sorted(set(draw(spec, {}, np.random.default_rng(0)).tolist())) == [3, 4, 5, 6]


def test_floats_without_a_range_are_standard_normal() -> None:
    values = draw(TensorSpec(shape=(100_000,)), {}, np.random.default_rng(0))
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02


def edges(spec: TensorSpec) -> dict[str, np.ndarray]:
    """The edge probes of one input, by name."""
    return {
        probe.name: probe.inputs["x"]
        for probe in synthetic_probes({"x": spec}, {})
        if probe.kind == "edge"
    }


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
    assert set(arrays) == {"edge lowest", "edge highest"} | (
        {"edge zeros"} if low <= 0 <= high else set()
    )
    assert np.unique(arrays["edge lowest"]).tolist() == [low]
    assert np.unique(arrays["edge highest"]).tolist() == [high]
    assert not arrays.get("edge zeros", np.zeros(1)).any()
    assert {array.dtype for array in arrays.values()} == {np.dtype(dtype)}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_without_a_range_are_zero_very_large_and_very_small(dtype: str) -> None:
    arrays = edges(TensorSpec(shape=(50, 50), dtype=dtype))
    assert list(arrays) == ["edge zeros", "edge large", "edge small"]
    assert not arrays["edge zeros"].any()
    assert 900 < arrays["edge large"].astype(np.float64).std() < 1100
    assert 0.0009 < arrays["edge small"].astype(np.float64).std() < 0.0011
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_inputs_that_have_no_such_edge_are_drawn() -> None:
    inputs = {
        "ids": TensorSpec(shape=(50,), dtype="int64", range=(0, 9)),
        "x": TensorSpec(shape=(50,)),
    }
    arrays = {
        probe.name: probe.inputs for probe in synthetic_probes(inputs, {}) if probe.kind == "edge"
    }
    assert list(arrays) == ["edge zeros", "edge lowest", "edge highest", "edge large", "edge small"]
    assert len(np.unique(arrays["edge zeros"]["ids"])) > 1
    assert not arrays["edge zeros"]["x"].any()
    assert np.unique(arrays["edge highest"]["ids"]).tolist() == [9]
    assert abs(arrays["edge highest"]["x"].std() - 1) < 0.5


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_an_input_without_dimensions_is_an_array_too(dtype: str) -> None:
    for probe in synthetic_probes({"x": TensorSpec(shape=(), dtype=dtype)}, {}):
        assert isinstance(probe.inputs["x"], np.ndarray)
        assert (probe.inputs["x"].shape, str(probe.inputs["x"].dtype)) == ((), dtype)
