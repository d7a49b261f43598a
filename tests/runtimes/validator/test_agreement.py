"""A classifier's decisions compared with eager's: top-1, top-5, divergence, accuracy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runtimes.validator.agreement import Agreement, agreement
from runtimes.validator.parity import summarize
from runtimes.validator.probes import Probe, ProbeKind
from runtimes.validator.reference import Reference

Array = np.ndarray[Any, Any]
shapes = st.tuples(st.integers(1, 4), st.integers(1, 12))
elements = st.floats(-1e4, 1e4)
logits = hnp.arrays(np.float64, shapes, elements=elements)
pairs = shapes.flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.float64, shape, elements=elements)] * 2)
)


def compare(answer: Array, eager: Array) -> Agreement:
    outputs = [{"logits": eager}]
    return agreement([{"logits": answer}], Reference([Probe("one", {})], outputs, outputs))


def classes(*best: int, count: int = 3) -> Array:
    """Logits whose best classes are these."""
    return np.eye(count)[list(best)]


def labelled(*parts: tuple[ProbeKind, tuple[int, ...], tuple[int, ...]]) -> Reference:
    """Probes of a kind, with eager's classes and the labels."""
    probes = [
        Probe(str(index), {}, kind, {}, (), labels) for index, (kind, _, labels) in enumerate(parts)
    ]
    outputs = [{"logits": classes(*best)} for _, best, _ in parts]
    return Reference(probes, outputs, outputs)


@given(pairs)
def test_divergence_is_never_negative(pair: tuple[Array, Array]) -> None:
    assert compare(*pair).kl >= 0


def test_rounding_makes_no_divergence_negative() -> None:
    rng = np.random.default_rng(0)
    eager = rng.standard_normal((200, 1, 10))
    assert min(compare(row * (1 + 1e-15), row).kl for row in eager) >= 0


@given(logits)
def test_equal_logits_agree_in_everything(logits: Array) -> None:
    agreed = compare(logits, logits)
    assert (agreed.top1, agreed.top5, agreed.kl, agreed.samples) == (1, 1, 0, len(logits))


@given(logits.filter(lambda scores: scores.shape[1] > 1), st.floats(-100, 100))
def test_a_constant_added_to_all_logits_changes_no_probability(logits: Array, shift: float) -> None:
    assert compare(logits + shift, logits).kl == pytest.approx(0, abs=1e-9)


@given(pairs)
def test_shares_are_shares(pair: tuple[Array, Array]) -> None:
    agreed = compare(*pair)
    assert 0 <= agreed.top1 <= 1
    assert 0 <= agreed.top5 <= 1


def test_a_known_divergence() -> None:
    agreed = compare(np.log([[0.9, 0.1]]), np.log([[0.5, 0.5]]))
    assert agreed.kl == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1))


def test_divergence_is_the_mean_over_the_samples() -> None:
    eager, answer = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
    together = compare(np.concatenate([answer, eager]), np.concatenate([eager, eager]))
    assert together.kl == pytest.approx(compare(answer, eager).kl / 2)


def test_classes_that_both_exclude_add_nothing() -> None:
    eager = np.array([[0.0, 1.0, -np.inf]])
    assert compare(eager, eager).kl == 0
    assert (
        compare(np.array([[0.0, 2.0, -np.inf]]), eager).kl
        == compare(np.array([[0.0, 2.0]]), np.array([[0.0, 1.0]])).kl
    )


@pytest.mark.parametrize("bad", [-np.inf, np.nan])
def test_a_divergence_without_limit_becomes_null(bad: float) -> None:
    outputs = [{"logits": np.array([[0.0, 1.0]])}]
    reference = Reference([Probe("one", {})], outputs, outputs)
    assert (
        summarize([{"logits": np.array([[bad, 1.0]])}], reference, classification=True).kl is None
    )


def test_top5_is_the_share_of_eagers_best_five() -> None:
    eager = np.arange(10.0)[None]
    nine_for_four = eager.copy()
    nine_for_four[0, [4, 9]] = nine_for_four[0, [9, 4]]
    assert compare(-eager, eager).top5 == 0
    assert compare(nine_for_four, eager).top5 == 0.8
    assert compare(eager[:, ::-1][:, :5], eager[:, :5]).top5 == 1, (
        "with five classes all are among the best"
    )


def test_edge_values_and_repeated_samples_are_no_samples() -> None:
    reference = labelled(("noise", (0, 1), ()), ("edge", (2,), ()), ("size", (2,), ()))
    answers = [{"logits": classes(0, 0)}, {"logits": classes(0)}, {"logits": classes(2)}]
    assert (agreement(answers, reference).top1, agreement(answers, reference).samples) == (1 / 2, 2)


def test_accuracy_counts_each_labelled_sample_once() -> None:
    """Batches at other sizes repeat the samples; rows that fill up the last batch have no label."""
    reference = labelled(("data", (0, 1), (0, 2)), ("data", (2, 0), (2,)), ("size", (1, 1), (0, 2)))
    answers = [{"logits": classes(0, 2)}, {"logits": classes(1, 1)}, {"logits": classes(0, 2)}]
    accuracy = agreement(answers, reference).accuracy
    assert accuracy is not None
    assert accuracy.samples == 3
    assert accuracy.eager == pytest.approx(2 / 3), "0 and 2 of 0, 2, 2"
    assert accuracy.artifact == pytest.approx(2 / 3), "0 and 2 of 0, 2, 2"
    assert (accuracy.drop, accuracy.mcnemar_p) == (0, 1)


def test_without_labels_there_is_no_accuracy() -> None:
    reference = labelled(("data", (0, 1), ()), ("size", (1,), (1,)))
    assert agreement(reference.eager, reference).accuracy is None


def test_a_single_score_decides_between_two_classes() -> None:
    eager = np.array([[-2.0], [-0.1], [0.1], [3.0]])
    agreed = compare(eager + 0.5, eager)
    assert (agreed.top1, agreed.samples) == (3 / 4, 4), "-0.1 becomes 0.4: the other class"
    assert compare(eager[:, 0] + 0.5, eager[:, 0]).top1 == 3 / 4, "also without an axis of classes"


def test_a_single_probability_decides_at_one_half() -> None:
    eager = np.array([[0.2], [0.45], [0.55], [0.9]])
    assert compare(eager + 0.1, eager).top1 == 3 / 4
    assert compare(np.full((4, 1), 0.4), eager).top1 == 1 / 2


def repeated(values: list[int], eager: Array) -> Reference:
    """Labelled samples of one number each; equal numbers are one sample that occurs again."""
    probes = [
        Probe(str(index), {"x": np.array([[value]])}, "data", {}, (), (int(scores.argmax()),))
        for index, (value, scores) in enumerate(zip(values, eager, strict=True))
    ]
    outputs = [{"logits": scores[None]} for scores in eager]
    return Reference(probes, outputs, outputs)


def test_a_sample_that_occurs_again_proves_nothing_more() -> None:
    values, best = [1, 2, 1, 1, 3], (0, 1, 0, 0, 2)
    reference = repeated(values, classes(*best))
    wrong = [{"logits": scores[None]} for scores in classes(1, 1, 1, 1, 2)]
    agreed = agreement(wrong, reference)
    assert (agreed.samples, agreed.top1) == (3, pytest.approx(2 / 3))
    assert agreed.accuracy is not None
    assert (agreed.accuracy.samples, agreed.accuracy.lost) == (3, 1)
