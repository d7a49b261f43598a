"""Every id of a table is tried once, or as many as a bounded number of inputs hold."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runtimes.spec import TensorSpec
from runtimes.validator.defaults import ID_PROBES
from runtimes.validator.inputs.ids import coverage, covering
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


def test_nothing_is_added_to_samples_that_contain_all_ids() -> None:
    inputs = {"ids": TensorSpec(shape=(4,), dtype="int64", range=(0, 3))}
    samples = [{"ids": np.arange(4)}]
    assert list(covering(inputs, {}, samples, np.random.default_rng(0))) == []


def test_the_report_says_how_many_of_how_many() -> None:
    inputs = {"ids": TensorSpec(shape=(4,), dtype="int64", range=(0, 9999))}
    [report] = coverage(inputs, [{"ids": np.arange(4)}])
    assert str(report) == "4 of 10,000 ids of ids"
