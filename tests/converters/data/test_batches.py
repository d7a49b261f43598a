"""Batches of samples: one size each, every sample in one, labels with their samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.data.batches import make_batches
from converters.data.samples import Sample
from converters.recipe.schema import Recipe
from runtimes.errors import UsageError
from runtimes.validator.probes import Probe, with_limits


def recipe(batch: Any, *names: str, **length: int) -> Recipe:
    dims: dict[str, Any] = {"length": {"min": 1, "opt": 4, "max": 9, **length}}
    if not isinstance(batch, int):
        dims["batch"] = batch
    spec = {"shape": (batch if isinstance(batch, int) else "batch", "length"), "dtype": "int64"}
    return Recipe.model_validate(
        {
            "model": "python:a:b",
            "inputs": dict.fromkeys(names or ("ids",), spec),
            "dims": dims,
            "artifacts": {"onnx": {}},
        }
    )


def sample(number: int, length: int, label: int | None = None) -> Sample:
    return Sample({"ids": np.full(length, number)}, label, f"text {number}")


def contents(batches: list[Probe]) -> list[list[int]]:
    return [[int(row[0]) for row in batch.inputs["ids"]] for batch in batches]


def test_samples_of_one_size_fill_batches_in_order_and_the_last_from_the_start() -> None:
    samples = [sample(number, 4) for number in range(3)]
    batches = make_batches(recipe({"opt": 2, "max": 8}), samples)
    assert contents(batches) == [[0, 1], [2, 0]]
    assert [batch.name for batch in batches] == ["samples from 0", "samples from 2"]


def test_samples_of_several_sizes_make_batches_of_one_size_each() -> None:
    samples = [sample(number, 3 + number % 2) for number in range(5)]
    batches = make_batches(recipe({"opt": 2, "max": 8}), samples)
    assert contents(batches) == [[0, 2], [4, 0], [1, 3]]
    assert [batch.sizes["length"] for batch in batches] == [3, 3, 4]
    assert batches[2].name == "samples from 1, length=4, batch=2"


def test_too_few_of_a_size_make_a_smaller_batch() -> None:
    samples = [sample(0, 3), sample(1, 4), sample(2, 4)]
    batches = make_batches(recipe({"opt": 4, "max": 8}), samples)
    assert contents(batches) == [[0], [1, 2]]
    assert [batch.sizes["batch"] for batch in batches] == [1, 2]


@pytest.mark.parametrize("batch", [{"min": 4, "opt": 4, "max": 8}, 4])
def test_where_no_smaller_batch_is_legal_it_is_filled_up(batch: Any) -> None:
    batches = make_batches(recipe(batch), [sample(0, 3), sample(1, 4), sample(2, 4)])
    assert contents(batches) == [[0] * 4, [1, 2, 1, 2]]


@pytest.mark.parametrize(
    ("length", "words"),
    [
        ({}, r"text 1 has length=12, but `dims:` allows 1 to 9: widen the range"),
        ({"min": 2, "max": 20, "multiple_of": 2}, "2 to 20 in steps of 2"),
    ],
)
def test_a_sample_of_a_size_that_is_not_legal(length: dict[str, int], words: str) -> None:
    odd = 13 if length else 12
    with pytest.raises(UsageError, match=words):
        make_batches(recipe({"max": 8}, **length), [sample(0, 4), sample(1, odd)])


def test_inputs_that_differ_in_a_size() -> None:
    arrays = {"ids": np.zeros(3, np.int64), "mask": np.zeros(4, np.int64)}
    with pytest.raises(UsageError, match="text has length=4 in 'mask', and length=3 elsewhere"):
        make_batches(recipe({"max": 8}, "ids", "mask"), [Sample(arrays, None, "text")])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 5))
def test_every_sample_is_in_one_batch_with_its_label(lengths: list[int], best: int) -> None:
    samples = [sample(number, length, number) for number, length in enumerate(lengths)]
    batches = make_batches(recipe({"opt": best, "max": 8}), samples)
    labelled = []
    for batch, rows in zip(batches, contents(batches), strict=True):
        assert list(batch.labels) == rows[: len(batch.labels)]
        assert batch.inputs["ids"].shape == (batch.sizes["batch"], batch.sizes["length"])
        assert {lengths[row] for row in rows} == {batch.sizes["length"]}
        labelled += batch.labels
    assert sorted(labelled) == list(range(len(samples)))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_probes_of_other_batch_sizes_have_rows_of_one_size(lengths: list[int]) -> None:
    texts = recipe({"max": 8})
    samples = make_batches(texts, [sample(row, length) for row, length in enumerate(lengths)])
    for probe in with_limits(samples, texts.inputs, texts.dims):
        assert probe.inputs["ids"].shape == (probe.sizes["batch"], probe.sizes["length"])
        for index, row in enumerate(probe.rows):
            assert np.array_equal(probe.inputs["ids"][index], samples[row].inputs["ids"][0])
