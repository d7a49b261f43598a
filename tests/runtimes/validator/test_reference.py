"""The reference travels in one file, and knows when it proves nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import save_file

from runtimes.errors import ArtifactError, UsageError
from runtimes.files.layout import REFERENCE_FILE
from runtimes.validator.outputs.errors import Errors
from runtimes.validator.probes import Probe, ProbeKind
from runtimes.validator.reference import Reference

dtypes = st.sampled_from(["float32", "float64", "float16", "int64", "int8", "uint8", "bool"])
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))


@st.composite
def references(draw: st.DrawFn) -> Reference:
    count, names = (
        draw(st.integers(1, 3)),
        draw(st.lists(st.text("ab/ü", min_size=1), min_size=1, max_size=2, unique=True)),
    )

    def like(pattern: np.ndarray) -> np.ndarray:
        array: np.ndarray = draw(hnp.arrays(pattern.dtype, pattern.shape))
        return array

    patterns, inputs = {name: draw(arrays) for name in names}, draw(arrays)
    rows = len(inputs) if inputs.ndim else 1

    def outputs() -> list[dict[str, np.ndarray]]:
        return [{name: like(patterns[name]) for name in names} for _ in range(count)]

    probes = [
        Probe(
            f"probe {i}",
            {"x": like(inputs)},
            draw(st.sampled_from(["data", "noise", "size", "edge"])),
            {"batch": i},
            (0,) * min(i, rows),
            (i,),
        )
        for i in range(count)
    ]
    return Reference(probes, outputs(), outputs(), "float64", draw(st.floats(0, 1)), ["a note"])


def assert_equal(
    actual: list[dict[str, np.ndarray]], expected: list[dict[str, np.ndarray]]
) -> None:
    for arrays, expected_arrays in zip(actual, expected, strict=True):
        assert list(arrays) == list(expected_arrays)
        for name, array in arrays.items():
            assert array.dtype == expected_arrays[name].dtype
            assert array.shape == expected_arrays[name].shape
            np.testing.assert_array_equal(array, expected_arrays[name])


def varying(scale: float = 1.0) -> Reference:
    """Four probes whose output differs by `scale` around 1000."""
    outputs = [{"y": np.array([[1000 + scale * i, 5.0]])} for i in range(4)]
    return Reference([Probe(str(i), {}) for i in range(4)], outputs, outputs)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(references())
def test_what_is_saved_is_loaded_again(tmp_path: Path, reference: Reference) -> None:
    reference.save(tmp_path / REFERENCE_FILE)
    loaded = Reference.load(tmp_path / REFERENCE_FILE)
    inputs = [probe.inputs for probe in loaded.probes]
    assert_equal(inputs, [probe.inputs for probe in reference.probes])
    assert_equal(loaded.eager, reference.eager)
    assert_equal(loaded.truth, reference.truth)
    assert [(p.name, p.kind, p.sizes, p.rows, p.labels) for p in loaded.probes] == [
        (p.name, p.kind, p.sizes, p.rows, p.labels) for p in reference.probes
    ]
    assert (loaded.truth_dtype, loaded.repeat_error, loaded.notes) == (
        "float64",
        reference.repeat_error,
        ["a note"],
    )
    assert loaded.synthetic == reference.synthetic


def test_errors_of_rounding_travel_and_a_file_without_them_has_none(tmp_path: Path) -> None:
    errors = {"fp16": {"y": Errors(whole=0.25, axes=((0.125, 0.5), ()))}, "bf16": {}}
    replace(varying(), rounding=errors).save(tmp_path / REFERENCE_FILE)
    assert Reference.load(tmp_path / REFERENCE_FILE).rounding == errors
    with safe_open(tmp_path / REFERENCE_FILE, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        facts = json.loads(file.metadata()["burnish"])
    del facts["rounding"]
    save_file(tensors, tmp_path / REFERENCE_FILE, {"burnish": json.dumps(facts)})
    assert Reference.load(tmp_path / REFERENCE_FILE).rounding == {}


def test_the_order_of_the_outputs_is_kept(tmp_path: Path) -> None:
    outputs = [{"z": np.zeros(1), "a": np.ones(1)}]
    Reference([Probe("one", {})], outputs, outputs).save(tmp_path / REFERENCE_FILE)
    assert list(Reference.load(tmp_path / REFERENCE_FILE).truth[0]) == ["z", "a"]


def test_a_real_reference_holds_the_truth_in_float64(small_reference: Reference) -> None:
    assert small_reference.truth_dtype == "float64"
    assert small_reference.repeat_error == 0
    assert small_reference.constant_outputs() == []
    for eager, truth in zip(small_reference.eager, small_reference.truth, strict=True):
        assert (eager["logits"].dtype, truth["logits"].dtype) == (np.float32, np.float64)
        np.testing.assert_allclose(eager["logits"], truth["logits"], rtol=1e-4, atol=1e-5)
        assert not np.array_equal(eager["logits"], truth["logits"])


def test_a_missing_reference_says_where_to_copy_it_from(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"copy reference\.safetensors of the build"):
        Reference.load(tmp_path / REFERENCE_FILE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.data())
def test_a_reference_cut_anywhere_is_refused(
    tmp_path: Path, small_build: Path, data: st.DataObject
) -> None:
    content = (small_build / REFERENCE_FILE).read_bytes()
    (tmp_path / REFERENCE_FILE).write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ArtifactError, match="cannot read the reference"):
        Reference.load(tmp_path / REFERENCE_FILE)


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"burnish": "{}"}, {"burnish": "not JSON"}]
)
def test_someone_elses_safetensors_file_is_refused(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    save_file({"weight": np.zeros(3)}, tmp_path / REFERENCE_FILE, metadata)
    with pytest.raises(ArtifactError, match="cannot read the reference"):
        Reference.load(tmp_path / REFERENCE_FILE)


def test_an_output_that_never_changes_is_constant() -> None:
    assert varying(0).constant_outputs() == ["y"]


def test_an_output_that_changes_less_than_can_be_measured_is_constant() -> None:
    assert varying(1e-6).constant_outputs() == ["y"]


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e6])
def test_an_output_that_changes_is_not_constant(scale: float) -> None:
    assert varying(scale).constant_outputs() == []


def test_all_zeros_are_constant_as_the_untrained_heads_are() -> None:
    outputs = [{"y": np.zeros((2, 3))} for _ in range(2)]
    assert Reference([Probe("a", {}), Probe("b", {})], outputs, outputs).constant_outputs() == ["y"]


def test_whole_numbers_that_vary_a_little_around_a_large_one_vary() -> None:
    """Seconds of the epoch, and ids that float64 does not tell apart."""
    for offset in (1_700_000_000, 2**60):
        outputs = [{"y": np.array([[offset + value]])} for value in range(3)]
        probes = [Probe(str(index), {}) for index in range(3)]
        assert Reference(probes, outputs, outputs).constant_outputs() == []


def test_a_count_may_be_constant_beside_what_varies() -> None:
    outputs = [{"y": np.array([[float(v)]]), "count": np.array([[10]])} for v in range(3)]
    probes = [Probe(str(index), {}) for index in range(3)]
    assert Reference(probes, outputs, outputs).constant_outputs() == []
    alone = [{"count": each["count"]} for each in outputs]
    assert Reference(probes, alone, alone).constant_outputs() == ["count"]
    heads = [{**each, "head": np.zeros((1, 2))} for each in outputs]
    assert Reference(probes, heads, heads).constant_outputs() == ["head"]


def test_what_varies_only_at_edge_values_is_constant() -> None:
    outputs = [{"y": np.array([[value]])} for value in (1.0, 1.0, 5.0)]
    kinds: tuple[ProbeKind, ...] = ("noise", "noise", "edge")
    probes = [Probe(str(index), {}, kind) for index, kind in enumerate(kinds)]
    assert Reference(probes, outputs, outputs).constant_outputs() == ["y"]


def test_an_output_that_is_never_finite_is_constant() -> None:
    """Nothing of it is ever compared, so any artifact would agree."""
    outputs = [{"y": np.full((1, 3), np.nan)} for _ in range(3)]
    assert Reference(
        [Probe(str(i), {}) for i in range(3)], outputs, outputs
    ).constant_outputs() == ["y"]


def test_a_mask_that_depends_on_the_input_is_not_constant() -> None:
    outputs = [{"y": np.where(np.arange(4) <= i, 1.0 + i, -np.inf)[None]} for i in range(3)]
    assert (
        Reference([Probe(str(i), {}) for i in range(3)], outputs, outputs).constant_outputs() == []
    )


def test_only_the_constant_one_of_two_outputs_is_named() -> None:
    outputs = [{"y": np.full((1, 2), float(i)), "bias": np.ones((1, 2))} for i in range(3)]
    assert Reference(
        [Probe(str(i), {}) for i in range(3)], outputs, outputs
    ).constant_outputs() == ["bias"]
