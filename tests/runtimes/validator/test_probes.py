"""Probes: seeded, legal, and one at sizes that no exporter saw."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from runtimes.spec import DimRange, TensorSpec, mismatch
from runtimes.validator.defaults import SYNTHETIC_PROBES
from runtimes.validator.probes import draw, export_sizes, synthetic_probes, unseen_size


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


@given(ranges())
def test_the_unseen_size_is_legal(dim: DimRange) -> None:
    size = unseen_size(dim, export_sizes({"batch": dim})["batch"])
    assert dim.min <= size <= dim.max


@given(ranges())
def test_the_unseen_size_is_not_the_exported_one_where_the_range_has_another(dim: DimRange) -> None:
    assume(dim.max > dim.min)
    seen = export_sizes({"batch": dim})["batch"]
    assert unseen_size(dim, seen) != seen


@given(ranges())
def test_with_three_sizes_the_unseen_one_is_not_the_best_either(dim: DimRange) -> None:
    assume(dim.max > dim.min + 1)
    assert unseen_size(dim, export_sizes({"batch": dim})["batch"]) != dim.best


@given(dims, st.integers(0, 2**32))
def test_every_probe_fits_the_inputs(dims: dict[str, DimRange], seed: int) -> None:
    inputs = {"x": TensorSpec(shape=(*dims, 3)), "mask": TensorSpec(shape=(*dims,), dtype="bool")}
    for probe in synthetic_probes(inputs, dims, seed):
        assert mismatch(probe.inputs, inputs, dims) is None
        assert {name: probe.inputs["x"].shape[axis] for axis, name in enumerate(dims)} == probe.sizes


def test_a_dynamic_batch_gets_one_more_probe_that_says_its_size() -> None:
    inputs = {"x": TensorSpec(shape=("batch", 3))}
    probes = synthetic_probes(inputs, {"batch": DimRange(max=16)})
    assert [probe.sizes["batch"] for probe in probes] == [1] * SYNTHETIC_PROBES + [3]
    assert probes[-1].name == "noise at batch=3"


def test_a_fixed_shape_gets_no_other_sizes() -> None:
    assert len(synthetic_probes({"x": TensorSpec(shape=(2, 3))}, {})) == SYNTHETIC_PROBES


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
