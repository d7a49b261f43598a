"""Rows that occur for the first time."""

from __future__ import annotations

import numpy as np

from runtimes.validator.inputs.distinct import new_rows


def test_a_row_is_new_once() -> None:
    first = {"x": np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 2.0]])}
    second = {"x": np.array([[1.0, 3.0], [4.0, 4.0]])}
    assert [mask.tolist() for mask in new_rows([first, second])] == [
        [True, True, False],
        [False, True],
    ]


def test_all_inputs_of_a_row_count() -> None:
    samples = [{"ids": np.array([[1]]), "mask": np.array([[mask]])} for mask in (0, 1, 0)]
    assert [mask.tolist() for mask in new_rows(samples)] == [[True], [True], [False]]


def test_inputs_of_other_shapes_are_others() -> None:
    samples = [{"x": np.zeros((1, length))} for length in (3, 4, 3)]
    assert [mask.tolist() for mask in new_rows(samples)] == [[True], [True], [False]]


def test_without_a_common_batch_nothing_is_known() -> None:
    samples = [{"x": np.zeros((2, 3)), "scale": np.array(1.0)}, {}]
    assert [len(mask) for mask in new_rows(samples)] == [0, 0]
