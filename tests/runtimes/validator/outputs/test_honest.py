"""Honest errors: what a precision explains, and by how much an artifact exceeds it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from runtimes.spec import Arrays
from runtimes.validator.defaults import HONEST_SAMPLES
from runtimes.validator.outputs.errors import Errors
from runtimes.validator.outputs.honest import (
    excess,
    honest_samples,
    measure_errors,
    rounding_errors,
)
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference

RNG = np.random.default_rng(0)


def reference(samples: int = 40, batch: int = 1, kind: str = "data") -> Reference:
    """Samples with ten logits, and an edge value."""
    truth = [{"logits": RNG.standard_normal((batch, 10))} for _ in range(samples)]
    probes = [
        Probe(f"sample {index}", {"x": np.zeros((batch, 3), np.float32)}, kind)
        for index in range(samples)
    ]
    probes.append(Probe("edge zeros", {"x": np.zeros((batch, 3), np.float32)}, "edge"))
    truth.append({"logits": np.full((batch, 10), 1e6)})
    eager = [{"logits": np.float32(arrays["logits"])} for arrays in truth]
    return Reference(probes, eager, truth)


def with_noise(base: Reference, scale: float | np.ndarray) -> dict[int, Arrays]:
    """Answers with an error of `scale`, at the samples."""
    answers = {}
    for index in honest_samples(base.probes):
        exact = base.truth[index]["logits"]
        answers[index] = {"logits": exact + scale * RNG.standard_normal(exact.shape)}
    return answers


def test_edge_values_are_no_samples_and_large_sets_are_cut() -> None:
    assert honest_samples(reference(5).probes) == [0, 1, 2, 3, 4]
    assert len(honest_samples(reference(100).probes)) == HONEST_SAMPLES
    assert len(honest_samples(reference(100, batch=8).probes)) == HONEST_SAMPLES // 8


def test_an_error_as_large_as_the_honest_one_exceeds_it_by_three_decibels() -> None:
    base = reference(64, batch=4)
    honest = measure_errors(with_noise(base, 0.01), base)
    twice = measure_errors(with_noise(base, 0.01 * math.sqrt(2)), base)
    (whole, name), _ = excess(twice, honest)
    assert name == "logits"
    assert whole == pytest.approx(3.0, abs=0.6)


def test_the_worst_part_is_named() -> None:
    base = reference(64)
    honest = measure_errors(with_noise(base, 0.01), base)
    scale = np.full(10, 0.01)
    scale[7] = 0.1
    _, (part, name) = excess(measure_errors(with_noise(base, scale), base), honest)
    assert name == "logits[:, 7]"
    assert part == pytest.approx(20.0, abs=4)


def test_a_part_without_an_error_of_its_own_is_compared_with_a_share_of_the_whole() -> None:
    honest = Errors(whole=1.0, axes=((2.0, 0.0),))
    _, (part, name) = excess({"y": Errors(whole=1.0, axes=((2.0, 1e-3),))}, {"y": honest})
    assert (part, name) == (0.0, "y[:, 0]")


def test_few_samples_have_no_parts() -> None:
    base = reference(4, kind="noise")
    assert measure_errors(with_noise(base, 0.01), base)["logits"].axes == ((),)


def test_the_error_of_float16_is_explained_by_eagers_rounding() -> None:
    base = reference(64)
    answers = {
        index: {"logits": np.float16(base.truth[index]["logits"])}
        for index in honest_samples(base.probes)
    }
    expected = rounding_errors(base)["logits"].scaled(2.0**26)
    (whole, _), _ = excess(measure_errors(answers, base), {"logits": expected})
    assert -10 < whole < 3, "the floor of eager's error is the unit of rounding, above its rms"


def test_outputs_whose_size_changes_from_sample_to_sample_are_left_out() -> None:
    base = reference(4)
    base.truth[1]["logits"] = np.zeros((1, 11))
    assert measure_errors({index: base.truth[index] for index in range(4)}, base) == {}
