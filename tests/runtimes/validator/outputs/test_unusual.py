"""A lossy artifact on zeros, constants and negative values: no answer of another size."""

from __future__ import annotations

import numpy as np
import pytest

from runtimes.spec import Arrays
from runtimes.validator.outputs.unusual import on_unusual_values
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference

RNG = np.random.default_rng(0)
VALUES = [RNG.standard_normal((1, 8)) for _ in range(3)]


def holds(
    factor: float, precision: str, region: str = "negative", shrunk: float = 1.0
) -> list[bool | None]:
    probes = [Probe("noise 0", {}), Probe(f"edge {region}", {}, "edge"), Probe("noise 1", {})]
    truth: list[Arrays] = [{"y": v} for v in VALUES]
    truth[1] = {"y": VALUES[1] * shrunk}
    answers: list[Arrays] = [{"y": (t["y"]).astype(np.float32)} for t in truth]
    answers[1] = {"y": (truth[1]["y"] * factor).astype(np.float32)}
    results = on_unusual_values(answers, Reference(probes, truth, truth), precision)
    return [result.ok for result in results]


@pytest.mark.parametrize("region", ["negative", "zeros", "constant"])
@pytest.mark.parametrize(
    ("precision", "factor", "expected"),
    [("int8", 3.0, False), ("int8", 1.5, True), ("fp16", 1.2, False), ("fp16", 1.05, True)],
)
def test_an_answer_of_another_size_fails(
    region: str, precision: str, factor: float, expected: bool
) -> None:
    assert holds(factor, precision, region) == [expected]


def test_other_regions_and_float32_are_not_asked() -> None:
    assert holds(3.0, "int8", "large") == []
    assert holds(3.0, "fp32") == []


def test_a_small_answer_is_compared_with_the_usual_size() -> None:
    assert holds(3.0, "int8", "zeros", shrunk=0.01) == [True]
