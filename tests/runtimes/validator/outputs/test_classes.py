"""Scores of classes, also of two that have one score."""

from __future__ import annotations

import numpy as np
import pytest

from runtimes.validator.outputs.classes import are_probabilities, class_scores, is_single


def test_the_last_axis_is_that_of_the_classes() -> None:
    scores = np.arange(24.0).reshape(2, 3, 4)
    assert class_scores(scores).shape == (6, 4)
    assert not is_single(scores)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_one_score_is_that_of_the_second_class(shape: tuple[int, ...]) -> None:
    scores = np.array([-1.0, 0.2, 3.0]).reshape(shape)
    assert is_single(scores)
    assert class_scores(scores).argmax(1).tolist() == [0, 1, 1]


def test_a_probability_chooses_at_one_half() -> None:
    chances = np.array([[0.0], [0.4], [0.6], [1.0]])
    assert are_probabilities([chances])
    scores = class_scores(chances, probabilities=True)
    assert scores.argmax(1).tolist() == [0, 0, 1, 1]
    assert np.isfinite(scores).all()
    assert not are_probabilities([chances, chances - 1])
