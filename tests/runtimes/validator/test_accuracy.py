"""Accuracy on labels: what the paired outcomes of two classifiers prove."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.results import Accuracy, GateResult
from runtimes.validator.accuracy import is_above_chance, paired
from runtimes.validator.gates import decisions

Outcomes = list[tuple[bool, bool]]
outcomes = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200)


def compared(outcomes: Outcomes) -> Accuracy:
    """Two classifiers: per sample, whether the artifact and whether eager was right."""
    mine, theirs = np.array(outcomes).T
    labels = np.arange(len(outcomes)) % 7
    return paired(np.where(mine, labels, labels + 1), np.where(theirs, labels, labels + 2), labels)


def counts(agreed: int = 0, lost: int = 0, won: int = 0, neither: int = 0) -> Accuracy:
    pairs = (
        [(True, True)] * agreed
        + [(False, True)] * lost
        + [(True, False)] * won
        + [(False, False)] * neither
    )
    return compared(pairs)


def width(accuracy: Accuracy) -> float:
    return accuracy.ci95[1] - accuracy.ci95[0]


def gate(accuracy: Accuracy | None, limit: float) -> GateResult:
    return decisions._accuracy(accuracy, limit, "measured")


@given(outcomes)
def test_the_drop_is_the_difference_of_both_accuracies(outcomes: Outcomes) -> None:
    accuracy = compared(outcomes)
    assert accuracy.samples == len(outcomes)
    assert accuracy.artifact == pytest.approx(sum(mine for mine, _ in outcomes) / len(outcomes))
    assert accuracy.eager == pytest.approx(sum(theirs for _, theirs in outcomes) / len(outcomes))
    assert accuracy.drop == pytest.approx(accuracy.eager - accuracy.artifact)


@given(outcomes)
def test_the_interval_contains_the_drop_and_is_never_without_doubt(outcomes: Outcomes) -> None:
    accuracy = compared(outcomes)
    low, high = accuracy.ci95
    assert -1 <= low <= accuracy.drop <= high <= 1
    assert width(accuracy) > 1 / len(outcomes), "one more sample could change more than this"


@given(outcomes, st.integers(2, 5))
def test_the_same_outcomes_on_more_samples_leave_less_doubt(outcomes: Outcomes, times: int) -> None:
    assert width(compared(outcomes * times)) < width(compared(outcomes))


@given(outcomes)
def test_the_order_of_the_samples_does_not_matter(outcomes: Outcomes) -> None:
    first, second = compared(sorted(outcomes)), compared(outcomes)
    assert first.model_copy(update={"chance": second.chance}) == second, "labels go by the order"


@given(outcomes)
def test_the_other_way_round_what_was_lost_is_won(outcomes: Outcomes) -> None:
    accuracy, turned = compared(outcomes), compared([(theirs, mine) for mine, theirs in outcomes])
    assert turned.drop == -accuracy.drop
    assert turned.ci95 == pytest.approx((-accuracy.ci95[1], -accuracy.ci95[0]))
    assert turned.mcnemar_p == accuracy.mcnemar_p


@given(outcomes)
def test_p_is_a_probability_and_one_where_nothing_speaks_for_a_difference(
    outcomes: Outcomes,
) -> None:
    accuracy = compared(outcomes)
    assert 0 < accuracy.mcnemar_p <= 1
    if accuracy.drop == 0:
        assert accuracy.mcnemar_p == 1


@pytest.mark.parametrize(
    ("lost", "won", "p"), [(1, 0, 1), (5, 0, 1 / 16), (10, 0, 2 / 1024), (8, 2, 112 / 1024)]
)
def test_known_p_values(lost: int, won: int, p: float) -> None:
    """Twice the tail of tossing lost + won fair coins."""
    assert counts(agreed=20, lost=lost, won=won).mcnemar_p == pytest.approx(p)


def test_the_interval_holds_the_true_drop_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    draws = [rng.multinomial(60, [0.80, 0.12, 0.05, 0.03]) for _ in range(1000)]
    accuracies = [counts(*(int(count) for count in draw)) for draw in draws]
    inside = np.mean(
        [low <= 0.12 - 0.05 <= high for low, high in (accuracy.ci95 for accuracy in accuracies)]
    )
    assert 0.93 < inside < 0.98


def test_a_drop_within_the_limit_that_so_few_samples_cannot_prove() -> None:
    result = gate(counts(agreed=3), 0.01)
    assert result.ok
    assert result.detail.startswith(
        "accuracy 100.0%, eager's 100.0%: drop 0 points on 3 samples (95 %: -"
    )
    assert result.detail.endswith("at most 1 point; too few samples to prove it")


def test_a_drop_that_enough_samples_prove() -> None:
    result = gate(counts(agreed=4000, lost=10, won=10), 0.01)
    assert result.ok
    assert result.detail.endswith("at most 1 point")


def test_a_larger_drop_fails() -> None:
    result = gate(counts(agreed=90, lost=10), 0.05)
    assert result.ok is False
    assert result.detail.startswith(
        "accuracy 90.0%, eager's 100.0%: drop 10 points on 100 samples (95 %: "
    )


def test_what_was_won_is_no_drop() -> None:
    assert gate(counts(agreed=90, won=10), 0.0).ok


def test_without_labels_there_is_nothing_to_judge_by() -> None:
    assert gate(None, 1.0).ok is False


@given(outcomes, st.floats(0, 1))
def test_the_gate_follows_the_drop_and_the_words_follow_the_interval(
    outcomes: Outcomes, limit: float
) -> None:
    accuracy = compared(outcomes)
    result = gate(accuracy, limit)
    assert result.ok is (accuracy.drop <= limit + 1e-9)
    unproven = accuracy.drop <= limit + 1e-9 and limit < accuracy.ci95[1]
    assert result.detail.endswith("too few samples to prove it") is unproven


def test_labels_of_another_model_are_right_by_chance() -> None:
    classes = np.arange(200) % 10
    right = paired(classes, classes, classes)
    assert right.chance == pytest.approx(0.1)
    assert is_above_chance(right)
    assert not is_above_chance(paired(classes, classes, (classes + 1) % 10))
    assert not is_above_chance(
        paired(classes, classes, np.random.default_rng(0).permutation(classes))
    )


def test_labels_of_a_single_class_show_nothing() -> None:
    same = np.full(50, 3)
    assert not is_above_chance(paired(same, same, same))
