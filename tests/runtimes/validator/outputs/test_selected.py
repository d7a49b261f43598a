"""Rows of eager's ranking are somewhere in the artifact's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from runtimes.spec import Arrays
from runtimes.validator.outputs.selected import judge_selected
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference


def reference(count: int = 24) -> Reference:
    """Eight boxes with their scores, the best first, on each sample."""
    rng = np.random.default_rng(0)
    eager: list[Arrays] = []
    for _ in range(count):
        scores = -np.sort(-rng.random((1, 8)), axis=1)
        eager.append({"scores": scores, "boxes": rng.uniform(0, 640, (1, 8, 4))})
    return Reference([Probe(str(index), {}, "data") for index in range(count)], eager, eager)


def failures(change: Callable[[Arrays], Arrays], precision: str = "int8") -> list[str]:
    judged = reference()
    copies = [{name: array.copy() for name, array in each.items()} for each in judged.eager]
    answers = [change(copied) for copied in copies]
    results = judge_selected(answers, judged, precision)
    return [result.detail for result in results if result.ok is False]


def _taken(order: list[int]) -> Callable[[Arrays], Arrays]:
    return lambda outputs: {name: array[:, order] for name, array in outputs.items()}


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "int4"])
def test_a_box_that_is_dropped_is_named(precision: str) -> None:
    [detail] = failures(_taken([0, 1, 2, 3, 5, 5, 6, 7]), precision)
    assert detail.startswith("row 4 of eager's ranking by scores is among the artifact's in 0.0%")


def test_another_order_is_judged_elsewhere() -> None:
    assert failures(_taken([1, 0, 2, 3, 4, 5, 7, 6])) == []


def test_another_last_row_may_be_cut_off() -> None:
    assert failures(_taken([0, 1, 2, 3, 4, 5, 6, 6])) == []


def test_boxes_may_be_a_little_off() -> None:
    rng = np.random.default_rng(1)
    assert failures(lambda o: {**o, "boxes": o["boxes"] + rng.normal(0, 10, (1, 8, 4))}) == []
