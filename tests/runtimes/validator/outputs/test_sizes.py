"""A lossy artifact at other sizes: one that stands out has a fault, a hard one has none."""

from __future__ import annotations

import numpy as np
import pytest

from runtimes.spec import Arrays
from runtimes.validator.defaults import OUTLIER_SIZES
from runtimes.validator.outputs.sizes import judge_sizes
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference

RNG = np.random.default_rng(0)


def problems(
    loss: float,
    wrong: dict[int, float],
    precision: str = "int8",
    sizes: int = 16,
    rows: bool = False,
) -> list[str]:
    """Judge sizes with a loss everywhere, and factors at some sizes."""
    truth: list[Arrays] = [{"y": RNG.standard_normal((1, 10 + size))} for size in range(sizes)]
    answers: list[Arrays] = []
    for size, outputs in enumerate(truth):
        exact = outputs["y"] * wrong.get(size, 1.0)
        answers.append({"y": exact + loss * RNG.standard_normal(exact.shape)})
    belongs = (0,) if rows else ()
    probes = [Probe(f"size n={size}", {}, "size", rows=belongs) for size in range(sizes)]
    results = judge_sizes(answers, Reference(probes, truth, truth), precision)
    return [result.detail for result in results]


def test_sizes_that_are_off_by_a_fifth_fail_and_the_worst_is_named() -> None:
    assert "y at size n=5 is 1" in problems(0.02, {5: 1.2})[0]
    assert problems(0.02, dict.fromkeys(range(1, 16, 2), 1.2))


@pytest.mark.parametrize("loss", [0.001, 0.03, 0.2])
def test_sizes_that_err_alike_pass(loss: float) -> None:
    assert problems(loss, {}) == []


def test_what_is_near_the_others_or_was_never_compared_passes() -> None:
    assert problems(0.12, {5: 1.2}) == [], "honest sizes are as far off"
    assert problems(0.02, {5: 1.05}) == [], "still a good int8"
    assert problems(0.02, {5: 1.2}, "fp32") == []
    assert problems(0.02, {5: 1.2}, sizes=OUTLIER_SIZES - 1) == []
    assert problems(0.02, {5: 1.2}, rows=True) == []
