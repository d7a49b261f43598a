"""A selection takes each candidate once."""

from __future__ import annotations

import numpy as np

from runtimes.spec import Arrays
from runtimes.validator.outputs.repeats import judge_repeats
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference

LISTS, ROWS = 20, 6


def detections() -> list[Arrays]:
    """Scores in order, classes and boxes of ROWS detections."""
    rng = np.random.default_rng(0)
    lists: list[Arrays] = []
    for _ in range(LISTS):
        scores = -np.sort(-rng.uniform(0, 1, (1, ROWS)))
        classes = rng.integers(0, 2, (1, ROWS))
        lists.append({"scores": scores, "classes": classes, "boxes": rng.random((1, ROWS, 4))})
    return lists


def problems(repeating: int, eager_repeats: bool = False) -> list[str]:
    """Judge lists of which the first few repeat a box."""
    eager, answers = detections(), detections()
    for index in range(repeating):
        answers[index]["boxes"][:, 5] = answers[index]["boxes"][:, 4]
        if eager_repeats:
            eager[index]["boxes"][:, 5] = eager[index]["boxes"][:, 4]
    probes = [Probe(f"sample {index}", {}, "data") for index in range(LISTS)]
    return [result.detail for result in judge_repeats(answers, Reference(probes, eager, eager))]


def test_lists_that_repeat_a_box_fail() -> None:
    assert problems(LISTS) == ["20 of 20 lists of boxes have a row twice that eager has once"]
    assert problems(3)


def test_a_few_and_those_that_eager_repeats_too_are_no_fault() -> None:
    assert problems(0) == problems(2) == problems(LISTS, eager_repeats=True) == []
