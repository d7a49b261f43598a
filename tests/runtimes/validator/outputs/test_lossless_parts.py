"""Parts of float32 outputs: an error beside larger numbers is seen, and eager's own is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.spec import Arrays
from runtimes.validator.outputs.lossless_parts import Values, judge_part_noise, noisiest_part
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference

LIMIT = 16.0


def detections(samples: int = 8) -> Values:
    """Boxes of up to 640 pixels beside two scores of up to 1, at five places: float64[n, 6, 5]."""
    rng = np.random.default_rng(0)
    boxes, scores = rng.uniform(0, 640, (samples, 4, 5)), rng.uniform(0, 1, (samples, 2, 5))
    return np.concatenate([boxes, scores], 1)


def reference_of(truth: Values) -> Reference:
    probes = [Probe(f"sample {index}", {}, "data") for index in range(len(truth))]
    exact: list[Arrays] = [{"boxes": row[None]} for row in truth]
    eager: list[Arrays] = [{"boxes": row[None].astype(np.float32)} for row in truth]
    return Reference(probes, eager, exact)


def failed(truth: Values, actual: Values) -> list[str]:
    answers: list[Arrays] = [{"boxes": row[None].astype(np.float32)} for row in actual]
    results = judge_part_noise(answers, reference_of(truth), LIMIT)
    return [result.detail for result in results if result.ok is False]


@pytest.mark.parametrize("part", [4, 5])
@pytest.mark.parametrize("error", [1e-4, -1e-3, np.nan, np.inf])
def test_a_score_that_is_off_beside_boxes_fails_and_is_named(part: int, error: float) -> None:
    wrong = detections()
    wrong[3, part] += error
    assert f"noise (boxes[:, {part}, :] at sample 3)" in failed(detections(), wrong)[0]


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 8.0))
def test_errors_of_eagers_own_size_pass(seed: int, units: float) -> None:
    rng, truth = np.random.default_rng(seed), detections()
    rounding = np.abs(truth.astype(np.float32) - truth).mean((0, 2), keepdims=True)
    assert failed(truth, truth + units * rounding * rng.standard_normal(truth.shape)) == []


def _zeros(truth: Values) -> Values:
    truth[:, 4] = 0.0
    return truth


def _whole_numbers(truth: Values) -> Values:
    truth[:, 4] = np.round(10 * truth[:, 4])
    return truth


@pytest.mark.parametrize("exact", [_zeros, _whole_numbers])
def test_a_part_in_which_eager_is_exact_is_judged_in_units_of_the_whole(
    exact: Callable[[Values], Values],
) -> None:
    truth = exact(detections())
    moved = truth.copy()
    moved[:, 4] += 2e-5  # what is left of two numbers of 640
    assert failed(truth, moved) == []
    moved[:, 4] += 0.1
    assert failed(truth, moved)


def test_rounding_at_numbers_of_about_one_passes_where_they_cancel() -> None:
    truth = detections() / 640
    truth[:, 4:] *= 1e-3
    sigmoid = truth.copy()
    sigmoid[:, 4:] += 6e-8
    assert failed(truth, sigmoid) == []


def test_masked_values_are_left_out() -> None:
    truth = detections()
    truth[:, 4, 2] = -np.inf
    assert failed(truth, truth) == []
    wrong = truth.copy()
    wrong[:, 4] += 1e-4
    assert failed(truth, wrong)


def test_axes_of_other_sizes_and_vectors_have_no_parts() -> None:
    probes = [Probe(f"size {size}", {}, "size") for size in (3, 4)]
    outputs: list[Arrays] = [{"y": np.ones((1, size), np.float32)} for size in (3, 4)]
    assert noisiest_part(outputs, Reference(probes, outputs, outputs)) is None
    vectors: list[Arrays] = [{"y": np.ones(size, np.float32)} for size in (3, 4)]
    assert noisiest_part(vectors, Reference(probes, vectors, vectors)) is None
