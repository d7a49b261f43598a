"""Sorted outputs: ties may come in any order, everything else keeps its place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.spec import Arrays
from runtimes.validator.outputs.order import rankings, reconcile
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference


def best_of(scores: np.ndarray, count: int, order: np.ndarray | None = None) -> Arrays:
    """The best scores, their indices and their boxes; `order` breaks ties."""
    order = np.arange(len(scores)) if order is None else order
    chosen = order[np.argsort(-scores[order], kind="stable")][:count]
    boxes = np.stack([chosen, chosen * 2.0], -1).astype(np.float32)
    return {"score": scores[chosen], "index": chosen.astype(np.int64), "box": boxes}


def reference_of(*answers: Arrays) -> Reference:
    probes = [Probe(f"noise {n}", {"x": np.full(2, n, np.float32)}) for n in range(len(answers))]
    truth = [{name: array.astype(np.float64) for name, array in a.items()} for a in answers]
    return Reference(probes, list(answers), truth)


RNG = np.random.default_rng(0)
SCORES = [RNG.random(20).astype(np.float32) for _ in range(3)]
TIED = np.round(SCORES[0], 1)


def same(first: Arrays, second: Arrays) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in second)


def test_scores_with_rows_of_their_own_are_a_ranking() -> None:
    [ranking] = rankings(reference_of(*(best_of(scores, 5) for scores in SCORES)))
    assert (ranking.key, ranking.members) == ("score", ("score", "index", "box"))
    assert ranking.descending


def test_logits_are_no_ranking() -> None:
    assert rankings(reference_of(*({"logits": s, "other": s} for s in SCORES))) == []


@given(st.permutations(range(20)))
def test_tied_rows_may_come_in_any_order(order: list[int]) -> None:
    eager = best_of(TIED, 20)
    other = best_of(TIED, 20, np.array(order))
    assert same(reconcile([other], reference_of(eager), lossless=True)[0], eager)


@given(st.permutations(range(20)), st.integers(1, 19))
def test_another_member_of_the_last_tie_is_as_right(order: list[int], count: int) -> None:
    eager, other = best_of(TIED, count), best_of(TIED, count, np.array(order))
    ties = int((eager["score"][-1] == TIED).sum())
    reference = reference_of(eager, best_of(SCORES[1], count))
    [result] = reconcile([other], reference, lossless=True, indices=[0])
    shown = int((eager["score"] == eager["score"][-1]).sum())
    assert same(result, eager) or (shown == 1 and ties > 1)


@pytest.mark.parametrize("lossless", [True, False])
def test_a_wrong_choice_stays_wrong(lossless: bool) -> None:
    eager = [best_of(scores, 5) for scores in SCORES]
    wrong = [{**answer, "index": answer["index"][::-1].copy()} for answer in eager]
    results = reconcile(wrong, reference_of(*eager), lossless)
    assert all(
        not np.array_equal(r["index"], e["index"]) for r, e in zip(results, eager, strict=True)
    )


def test_two_boxes_that_were_exchanged_stay_exchanged() -> None:
    eager = [best_of(scores, 5) for scores in SCORES]
    wrong = [{**answer, "box": answer["box"][[1, 0, 2, 3, 4]]} for answer in eager]
    results = reconcile(wrong, reference_of(*eager), lossless=True)
    assert all(not np.array_equal(r["box"], e["box"]) for r, e in zip(results, eager, strict=True))


def test_outputs_of_other_shapes_stay_as_they_are() -> None:
    eager = best_of(TIED, 5)
    shorter = {name: array[:3] for name, array in eager.items()}
    assert reconcile([shorter], reference_of(eager), lossless=True) == [shorter]


def test_only_the_named_probes_are_ordered() -> None:
    eager = [best_of(scores, 20) for scores in (SCORES[1], TIED)]
    other = best_of(TIED, 20, np.arange(20)[::-1])
    [result] = reconcile([other], reference_of(*eager), lossless=True, indices=[1])
    assert same(result, eager[1])


def test_on_unusual_values_the_last_row_may_be_tied_with_one_that_was_cut_off() -> None:
    eager = best_of(SCORES[0], 5)
    other = {**eager, "box": eager["box"] + np.float32([[0, 0]] * 4 + [[30, 30]])}
    for kind, accepted in (("edge", True), ("noise", False)):
        reference = reference_of(best_of(SCORES[1], 5), eager)
        probes = [reference.probes[0], replace(reference.probes[1], kind=kind)]
        [result] = reconcile([other], replace(reference, probes=probes), True, indices=[1])
        assert same(result, eager) is accepted
