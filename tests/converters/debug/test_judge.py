"""The layer to blame, on hand-made errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from converters.debug.judge import (
    Limit,
    Measure,
    judge,
    jump,
    measure,
    own_error,
    own_fault,
    standing_out,
)
from runtimes.artifact.gates import Gates

LIMIT = Limit.of("fp32")
CHAIN = {0: [], 1: [0], 2: [1], 3: [2]}


def _measures(*noises: float) -> dict[int, Measure]:
    """Chain layers that each add the growth of the error from the layer before, as squares."""
    measures = {}
    previous = 0.0
    for layer, noise in enumerate(noises):
        added = math.sqrt(max(0.0, noise**2 - previous**2))
        measures[layer] = Measure(noise * 1e-7, 0.0, noise, "float32", 0, added * 1e-7)
        previous = noise
    return measures


def test_the_first_that_its_inputs_do_not_explain() -> None:
    assert judge(_measures(1, 1, 5000, 9000), CHAIN, [3], LIMIT).first == 2


def test_a_clean_artifact() -> None:
    verdict = judge(_measures(1, 2, 3, 15), CHAIN, [3], LIMIT)
    assert verdict.first is None and not verdict.doubtful


def test_an_error_that_builds_up_is_no_layers_fault() -> None:
    verdict = judge(_measures(9, 14, 20, 30), CHAIN, [3], LIMIT)
    assert verdict.gradual and verdict.first == 2


def test_one_that_stands_out_is_to_blame_for_what_builds_up() -> None:
    """It keeps the limit itself, and the layers after it add the rest."""
    measures = _measures(1, 15, 15.5, 17)
    verdict = judge(measures, CHAIN, [3], LIMIT)
    assert verdict.gradual and verdict.first == 3
    assert standing_out(measures, CHAIN, verdict) == 1
    alike = _measures(9, 14, 20, 30)
    assert standing_out(alike, CHAIN, judge(alike, CHAIN, [3], LIMIT)) is None


def test_an_error_that_was_given_and_grows_is_no_fault() -> None:
    """A difference of two near values: it has ten times the error of its inputs, and adds none."""
    measures = _measures(1, 5000, 5000, 5000)
    measures[2] = Measure(5e-3, 0.0, 50000, "float32", 0, 1e-7)
    assert judge(measures, CHAIN, [3], LIMIT).first == 1
    assert own_fault(1.0, 0.9) and not own_fault(1.0, 0.5)
    assert own_fault(math.inf, math.inf) and not own_fault(math.inf, 1.0)


def test_the_next_layer_shows_that_one_was_compared_with_the_wrong_value() -> None:
    measures = _measures(1, 5000, 1, 1)
    assert judge(measures, CHAIN, [3], LIMIT).misread == frozenset()
    measures[2] = Measure(1e-7, 0.0, 1, "float32", 0, 1e-7, misled=True)
    assert judge(measures, CHAIN, [3], LIMIT).misread == {1}


def test_the_gate_of_the_recipe_is_the_limit() -> None:
    assert Limit.of("fp32", gates=Gates(noise=100)).noise == 100
    assert Limit.of("int8", gates=Gates(sqnr_db=20)).sqnr_db == 20
    assert Limit.of("int8", gates=Gates()).sqnr_db == Limit.of("int8").sqnr_db == 10


def test_a_layer_whose_consumers_are_right_is_doubtful() -> None:
    verdict = judge(_measures(1, 5000, 1, 5000), CHAIN, [3], LIMIT)
    assert verdict.first == 3 and verdict.doubtful == {1}


def test_nothing_diverges_where_the_outputs_are_right() -> None:
    verdict = judge(_measures(1, 5000, 5000, 1), CHAIN, [3], LIMIT)
    assert verdict.first is None and verdict.doubtful == {1, 2}


def test_the_worst_input_counts() -> None:
    above = {0: [], 1: [], 2: [0, 1]}
    measures = _measures(1, 5000, 5001)
    assert judge(measures, above, [2], LIMIT).first == 1


def test_errors_of_independent_causes_add_as_squares() -> None:
    measures = {0: Measure(3.0, 0, 1, "float32", 0), 1: Measure(5.0, 0, 1, "float32", 0)}
    assert jump(1, measures, {0: [], 1: [0]}) == pytest.approx(4.0)
    measures[1] = Measure(math.inf, 0, math.inf, "float32", 0)
    assert jump(1, measures, {0: [], 1: [0]}) == math.inf


def test_what_a_layer_makes_itself() -> None:
    truth = np.full(4, 2.0)
    value = truth + 0.2
    assert own_error(value, truth + 0.2, truth) == 0.0, "all of it came from before"
    assert own_error(value, truth + 0.1, truth) == pytest.approx(0.05)
    assert own_error(value, truth - 9.0, truth) > 1, "it was not made of what the expectation is"
    assert own_error(value, np.full(4, np.nan), truth) == 0.0, "its input was no number"
    assert own_error(value * np.inf, truth, truth) == math.inf
    assert own_error(value[:2], truth, truth) == math.inf


def test_measure_in_three_units() -> None:
    truth = np.full(4, 2.0)
    eager = (truth + 1e-6).astype(np.float64)
    measured = measure(0, (truth + 1e-2).astype(np.float32), eager, truth)
    assert measured.error == pytest.approx(5e-3, rel=1e-3)
    assert measured.sqnr_db == pytest.approx(46.02, abs=0.01)
    assert measured.noise == pytest.approx(1e4, rel=1e-2)


def test_a_mask_of_infinity_is_no_error() -> None:
    truth = np.array([1.0, -np.inf, 2.0])
    measured = measure(0, truth.astype(np.float32), truth.astype(np.float32), truth)
    assert measured.error < 1e-7
    assert not LIMIT.exceeded(measured)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_is_an_infinite_error(wrong: float) -> None:
    truth = np.array([1.0, 2.0])
    measured = measure(0, np.array([1.0, wrong], np.float32), truth.astype(np.float32), truth)
    assert measured.error == math.inf
    assert LIMIT.exceeded(measured) and Limit.of("fp16").exceeded(measured)


def test_another_shape_is_an_infinite_error() -> None:
    truth = np.ones((2, 3))
    assert (
        measure(0, np.ones((3, 2), np.float32), truth.astype(np.float32), truth).error == math.inf
    )
