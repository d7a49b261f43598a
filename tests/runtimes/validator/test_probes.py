"""Probes: seeded, legal, at every size that matters, and at the limits of what is legal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.spec import DimRange, TensorSpec, export_sizes, mismatch
from runtimes.validator.defaults import SYNTHETIC_PROBES
from runtimes.validator.inputs.sizes import unseen_size
from runtimes.validator.probes import (
    batch_dimension,
    synthetic_probes,
    synthetic_samples,
    with_limits,
)


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
    assert [probe.rows for probe in sized[:2]] == [(0, 1, 2), tuple(range(SYNTHETIC_PROBES))]
    assert {probe.kind for probe in sized} == {"size", "nan"}


@given(dims, st.integers(0, 2**32))
def test_no_two_rows_of_a_batch_are_equal(dims: dict[str, DimRange], seed: int) -> None:
    inputs = {"x": TensorSpec(shape=("batch", 5)), "ids": TensorSpec(shape=("batch",))}
    for probe in synthetic_probes(inputs, {"batch": DimRange(max=40), **dims}, seed):
        if probe.kind == "size":
            assert len(np.unique(probe.inputs["x"], axis=0)) == len(probe.inputs["x"])


def test_a_fixed_shape_gets_no_other_sizes() -> None:
    kinds = [probe.kind for probe in synthetic_probes({"x": TensorSpec(shape=(2, 3))}, {})]
    assert kinds[:SYNTHETIC_PROBES] == ["noise"] * SYNTHETIC_PROBES
    assert set(kinds[SYNTHETIC_PROBES:]) == {"edge", "nan"}


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


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_an_input_without_dimensions_is_an_array_too(dtype: str) -> None:
    for probe in synthetic_probes({"x": TensorSpec(shape=(), dtype=dtype)}, {}):
        assert isinstance(probe.inputs["x"], np.ndarray)
        assert (probe.inputs["x"].shape, str(probe.inputs["x"].dtype)) == ((), dtype)
