"""Timed inputs: legal, never the same twice, and the same again for the same number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.spec import Arrays, Specs, TensorSpec, mismatch
from runtimes.validator.speed.stream import InputStream

SIZES = {"batch": 2, "length": 5}
FLOATS: Specs = {
    "plain": TensorSpec(shape=("batch", 3, 8)),
    "bounded": TensorSpec(shape=("batch", "length"), range=(0.1, 0.7)),
    "half": TensorSpec(shape=("batch", 64), dtype="float16"),
    "scalar": TensorSpec(shape=()),
}
IDS: Specs = {
    "ids": TensorSpec(shape=("batch", 40), dtype="int64", range=(3, 900)),
    "mask": TensorSpec(shape=("batch", 40), dtype="bool"),
    "byte": TensorSpec(shape=("batch", 3, 8), dtype="uint8", range=(0, 255)),
}
ALL = FLOATS | IDS


def real_samples(count: int = 3) -> list[Arrays]:
    rng = np.random.default_rng(5)
    return [
        {
            "plain": rng.standard_normal((2, 3, 8)).astype(np.float32),
            "bounded": rng.uniform(0.2, 0.6, (2, 5)).astype(np.float32),
            "half": rng.standard_normal((2, 64)).astype(np.float16),
            "scalar": np.asarray(rng.standard_normal(), np.float32),
            "ids": rng.choice([7, 11, 500], (2, 40)).astype(np.int64),
            "mask": rng.random((2, 40)) < 0.8,
            "byte": rng.integers(0, 256, (2, 3, 8), dtype=np.uint8),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("samples", [[], real_samples()], ids=["noise", "data"])
@given(st.integers(0, 1 << 40))
def test_every_input_is_legal_and_can_be_made_again(samples: list[Arrays], number: int) -> None:
    first, second = (InputStream(ALL, SIZES, samples).make(number) for _ in range(2))
    assert mismatch(first, ALL, {}) is None
    for name, spec in ALL.items():
        np.testing.assert_array_equal(first[name], second[name])
        assert not np.shares_memory(first[name], second[name])
        if spec.range is not None:
            low, high = np.asarray(spec.range, first[name].dtype)
            assert low <= first[name].min() and first[name].max() <= high


@pytest.mark.parametrize("samples", [[], real_samples()], ids=["noise", "data"])
@pytest.mark.parametrize("name", ALL)
def test_no_input_comes_twice(samples: list[Arrays], name: str) -> None:
    stream = InputStream({name: ALL[name]}, SIZES, samples)
    contents = {stream.make(number)[name].tobytes() for number in range(2000)}
    assert len(contents) == 2000


def test_real_ids_are_those_of_the_samples() -> None:
    stream = InputStream(ALL, SIZES, real_samples())
    ids = np.concatenate([stream.make(number)["ids"] for number in range(50)])
    assert set(ids.ravel().tolist()) == {7, 11, 500}


def test_the_samples_are_not_changed() -> None:
    samples = real_samples()
    stream = InputStream(ALL, SIZES, samples)
    for number in range(20):
        stream.make(number)
    for sample, fresh in zip(samples, real_samples(), strict=True):
        for name in ALL:
            np.testing.assert_array_equal(sample[name], fresh[name])


def test_values_that_are_not_finite_stay_what_they_are() -> None:
    masked: dict[str, np.ndarray[Any, Any]] = {"x": np.array([[0.0, -np.inf, np.nan]], np.float32)}
    stream = InputStream({"x": TensorSpec(shape=(1, 3))}, {}, [masked])
    with np.errstate(all="raise"):
        values = stream.make(7)["x"]
    assert np.isneginf(values).sum() == np.isnan(values).sum() == 1
