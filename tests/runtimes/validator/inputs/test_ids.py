"""Every id of a table is tried once, or as many as a bounded number of inputs hold."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runtimes.spec import DimRange, TensorSpec
from runtimes.validator.defaults import ID_PROBES, IDS_PER_PROBE
from runtimes.validator.inputs.ids import coverage, covering, roomy
from runtimes.validator.probes import synthetic_probes


@given(st.integers(3, 3000), st.integers(1, 40))
def test_samples_and_additions_contain_all_ids_or_as_many_as_they_hold(
    vocabulary: int, tokens: int
) -> None:
    inputs = {"ids": TensorSpec(shape=(1, tokens), dtype="int64", range=(0, vocabulary - 1))}
    probes = [probe.inputs for probe in synthetic_probes(inputs, {})]
    [report] = coverage(inputs, probes)
    assert report.legal == vocabulary
    assert report.tried >= min(vocabulary, ID_PROBES * tokens)


def test_of_a_large_vocabulary_the_ends_are_tried() -> None:
    inputs = {"ids": TensorSpec(shape=(1, 16), dtype="int32", range=(0, 30521))}
    added = list(covering(inputs, {}, [], np.random.default_rng(0)))
    ids = np.concatenate([arrays["ids"].reshape(-1) for arrays in added])
    assert len(added) == ID_PROBES
    assert {0, 30521} <= set(ids.tolist())


@given(st.integers(1, 300), st.integers(1, 200), st.sampled_from([1, 3, 8]))
def test_a_batch_holds_the_ids_of_samples_that_have_few(
    largest: int, tokens: int, unit: int
) -> None:
    inputs = {
        "ids": TensorSpec(shape=("batch", tokens), dtype="int64", range=(0, 500)),
        "image": TensorSpec(shape=("batch", 3)),
    }
    dims = {"batch": DimRange(min=unit, max=largest * unit, multiple_of=unit)}
    sizes = roomy(inputs, dims, "batch")
    assert dims["batch"].allows(sizes["batch"])
    assert sizes["batch"] == unit or sizes["batch"] * tokens <= IDS_PER_PROBE
    assert roomy(inputs, dims, None) == {"batch": unit}


def test_each_row_of_a_table_is_tried_if_a_sample_has_one_id() -> None:
    inputs = {"age": TensorSpec(shape=("batch",), dtype="int64", range=(0, 100))}
    probes = [probe.inputs for probe in synthetic_probes(inputs, {"batch": DimRange(max=32)})]
    [report] = coverage(inputs, probes)
    assert report.tried == 101


def test_nothing_is_added_to_samples_that_contain_all_ids() -> None:
    inputs = {"ids": TensorSpec(shape=(4,), dtype="int64", range=(0, 3))}
    samples = [{"ids": np.arange(4)}]
    assert list(covering(inputs, {}, samples, np.random.default_rng(0))) == []


def test_the_report_says_how_many_of_how_many() -> None:
    inputs = {"ids": TensorSpec(shape=(4,), dtype="int64", range=(0, 9999))}
    [report] = coverage(inputs, [{"ids": np.arange(4)}])
    assert str(report) == "4 of 10,000 ids of ids"
