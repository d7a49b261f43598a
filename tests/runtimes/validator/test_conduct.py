"""A session leaves alone the arrays of its caller, and the answers that it gave."""

from __future__ import annotations

import numpy as np

from runtimes.spec import Arrays, TensorSpec
from runtimes.validator.conduct import Conduct, repeated
from runtimes.validator.probes import synthetic_probes

ONES = np.ones(3, np.float32)


def test_a_session_that_leaves_everything_alone_is_no_problem() -> None:
    conduct = Conduct()
    for number in range(3):
        conduct.run(lambda arrays: {"y": arrays["x"] + 1}, f"noise {number}", {"x": ONES.copy()})
    assert conduct.problems == []


def test_an_input_that_changes_is_named_once() -> None:
    def double(arrays: Arrays) -> Arrays:
        arrays["x"] *= 2
        return {"y": arrays["x"].copy()}

    conduct = Conduct()
    for number in range(3):
        conduct.run(double, f"noise {number}", {"x": ONES.copy()})
    assert conduct.problems == ["it changes the array of its caller's input x (at noise 0)"]


def test_an_answer_that_the_next_call_overwrites_is_named_once() -> None:
    buffer = np.zeros(3, np.float32)

    def reuse(arrays: Arrays) -> Arrays:
        np.copyto(buffer, arrays["x"])
        return {"y": buffer}

    conduct = Conduct()
    for number in range(4):
        conduct.run(reuse, f"noise {number}", {"x": ONES * number})
    assert conduct.problems == ["the next call overwrites its answer y to noise 0"]


def test_the_first_samples_are_repeated_after_others_that_cost_little() -> None:
    probes = synthetic_probes({"x": TensorSpec(shape=(2, 3))}, {})
    indices = repeated(probes)
    assert indices[-2:] == [1, 0]
    assert len(set(indices)) == len(indices) == 6
    assert {probes[index].kind for index in indices[:-2]} <= {"noise", "edge"}


def test_a_single_probe_is_repeated() -> None:
    assert repeated(synthetic_probes({"x": TensorSpec(shape=(2, 3))}, {})[:1]) == [0]
