"""Which layer is to blame, on hand-made errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from converters.debug.judge import Limit, Measure, judge, jump, measure, own_error

LIMIT = Limit.of("fp32")
CHAIN = {0: [], 1: [0], 2: [1], 3: [2]}


def _found(*noises: float) -> dict[int, Measure]:
    return {layer: Measure(noise * 1e-7, 0.0, noise, "float32", 0) for layer, noise in enumerate(noises)}


def test_the_first_that_its_inputs_do_not_explain() -> None:
    assert judge(_found(1, 1, 5000, 9000), CHAIN, [3], LIMIT).first == 2


def test_a_clean_artifact() -> None:
    verdict = judge(_found(1, 2, 3, 15), CHAIN, [3], LIMIT)
    assert verdict.first is None and not verdict.doubtful


def test_an_error_that_builds_up_is_no_layers_fault() -> None:
    verdict = judge(_found(9, 14, 20, 30), CHAIN, [3], LIMIT)
    assert verdict.gradual and verdict.first == 2


def test_a_layer_whose_consumers_are_right_is_doubtful() -> None:
    verdict = judge(_found(1, 5000, 1, 5000), CHAIN, [3], LIMIT)
    assert verdict.first == 3 and verdict.doubtful == {1}


def test_nothing_diverges_where_the_outputs_are_right() -> None:
    verdict = judge(_found(1, 5000, 5000, 1), CHAIN, [3], LIMIT)
    assert verdict.first is None and verdict.doubtful == {1, 2}


def test_the_worst_input_counts() -> None:
    above = {0: [], 1: [], 2: [0, 1]}
    assert judge(_found(1, 5000, 5001), above, [2], LIMIT).first == 1


def test_errors_of_independent_causes_add_as_squares() -> None:
    found = {0: Measure(3.0, 0, 1, "float32", 0), 1: Measure(5.0, 0, 1, "float32", 0)}
    assert jump(1, found, {0: [], 1: [0]}) == pytest.approx(4.0)
    found[1] = Measure(math.inf, 0, math.inf, "float32", 0)
    assert jump(1, found, {0: [], 1: [0]}) == math.inf


def test_what_a_layer_makes_itself() -> None:
    truth = np.full(4, 2.0)
    found = truth + 0.2
    assert own_error(found, truth + 0.2, truth, 0.1) == 0.0, "all of it came from before"
    assert own_error(found, truth + 0.1, truth, 0.1) == pytest.approx(0.05)
    assert own_error(found, truth - 9.0, truth, 0.1) == 0.1, "never more than its whole error"
    assert own_error(found, np.full(4, np.nan), truth, 0.1) == 0.0, "it was given no number"
    assert own_error(found * np.inf, truth, truth, math.inf) == math.inf


def test_measure_in_three_units() -> None:
    truth = np.full(4, 2.0)
    eager = (truth + 1e-6).astype(np.float64)
    found = measure(0, (truth + 1e-2).astype(np.float32), eager, truth)
    assert found.error == pytest.approx(5e-3, rel=1e-3)
    assert found.sqnr_db == pytest.approx(46.02, abs=0.01)
    assert found.noise == pytest.approx(1e4, rel=1e-2)


def test_a_mask_of_infinity_is_no_error() -> None:
    truth = np.array([1.0, -np.inf, 2.0])
    found = measure(0, truth.astype(np.float32), truth.astype(np.float32), truth)
    assert found.error < 1e-7
    assert not LIMIT.exceeded(found)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_is_an_infinite_error(wrong: float) -> None:
    truth = np.array([1.0, 2.0])
    found = measure(0, np.array([1.0, wrong], np.float32), truth.astype(np.float32), truth)
    assert found.error == math.inf
    assert LIMIT.exceeded(found) and Limit.of("fp16").exceeded(found)


def test_another_shape_is_an_infinite_error() -> None:
    truth = np.ones((2, 3))
    assert measure(0, np.ones((3, 2), np.float32), truth.astype(np.float32), truth).error == math.inf
