"""Whole numbers: exact in float32, no constant and no lost value in lossy artifacts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runtimes.validator.outputs.numbers import (
    are_whole,
    exact_numbers,
    judge_numbers,
    whole_numbers,
)
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference

Values = np.ndarray[Any, Any]


def reference(eager: Values, truth: Values | None = None) -> Reference:
    """Real samples, one for each row."""
    rows = [{"y": row[None]} for row in eager]
    exact = rows if truth is None else [{"y": row[None]} for row in truth]
    probes = [Probe(f"sample {index}", {}, "data") for index in range(len(rows))]
    return Reference(probes, rows, exact)


def wrong(actual: Values, eager: Values, truth: Values | None = None) -> list[str]:
    answers = [{"y": row[None]} for row in actual]
    return [result.detail for result in exact_numbers(answers, reference(eager, truth), ["y"])]


def lossy(actual: Values, eager: Values, precision: str = "int8") -> list[str]:
    answers = [{"y": row[None]} for row in actual]
    results = judge_numbers(answers, reference(eager), ["y"], precision)
    return [result.detail for result in results if result.ok is False]


@pytest.mark.parametrize("offset", [0, 100_000, 2**60])
def test_one_of_many_large_numbers_is_off_by_one(offset: int) -> None:
    eager = np.random.default_rng(0).integers(0, 100, (3, 512)) + offset
    assert wrong(eager, eager) == []
    off = eager.copy()
    off[1, 7] += 1
    [detail] = wrong(off, eager)
    assert detail == "1 of 512 values of y at sample 1 are not eager's: they are whole numbers"


def test_the_truth_is_as_right_as_eager() -> None:
    eager = np.arange(12).reshape(3, 4)
    truth = eager.copy()
    truth[0, 0] = 9
    assert wrong(truth, eager, truth) == []


def test_as_far_as_eager_itself_is_off_others_may_be() -> None:
    eager = 1000 * np.arange(12).reshape(3, 4)
    assert wrong(eager - 2, eager, eager + 1) == []
    assert wrong(eager - 200, eager, eager + 1) != []


def foreground(share: float) -> Values:
    return np.random.default_rng(0).random((30, 8, 8)) < share


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "int4"])
def test_an_empty_mask_is_no_better_than_a_constant(precision: str) -> None:
    rare = foreground(0.05)
    assert lossy(rare, rare, precision) == []
    constant, lost = lossy(np.zeros_like(rare), rare, precision)
    assert constant.startswith("y is wrong 1.00 times as often as the most frequent value")
    assert lost.startswith("where eager's y is True")


def test_honest_flips_are_no_fault() -> None:
    rare = foreground(0.05)
    flipped = rare ^ (np.random.default_rng(1).random(rare.shape) < 0.01)
    assert lossy(flipped, rare) == []


def test_a_column_that_is_constant_is_named() -> None:
    mask = foreground(0.3)
    broken = mask.copy()
    broken[:, :, 7] = False
    [detail] = lossy(broken, mask)
    assert detail.startswith("y[:, :, 7] is wrong 1.00 times")


def test_a_class_that_is_never_found_is_named() -> None:
    classes = np.random.default_rng(0).integers(0, 10, (60, 8))
    lost = np.where(classes == 3, 4, classes)
    [detail] = lossy(lost, classes)
    assert detail.startswith("where eager's y is 3 (")
    assert detail.endswith("it is found in 0.0%, at least 30%")


def test_few_numbers_prove_nothing() -> None:
    classes = np.arange(30).reshape(30, 1) % 10
    assert lossy(np.where(classes == 3, 4, classes), classes) == []


@pytest.mark.parametrize(
    ("make", "whole"),
    [
        (lambda x: x.argmax(1), True),
        (lambda x: x > 0, True),
        (lambda x: (x > 0).astype(np.float32), True),
        (lambda x: x, False),
        (lambda x: np.round(3 * x), False),
        (lambda x: np.zeros_like(x), False),
        (lambda x: np.where(x > 0, 0.0, -np.inf), False),
    ],
)
def test_a_mask_of_floats_is_of_whole_numbers(
    make: Callable[[Values], Values], whole: bool
) -> None:
    outputs = [make(np.random.default_rng(seed).standard_normal((2, 30))) for seed in range(3)]
    assert are_whole(outputs) is whole
    assert (whole_numbers(reference(np.stack(outputs))) == ["y"]) is whole


def test_a_mask_of_floats_may_be_off_by_rounding() -> None:
    mask = foreground(0.3).astype(np.float32)
    assert lossy(mask * np.float32(0.996), mask) == []
    assert lossy(1 - mask, mask) != []
