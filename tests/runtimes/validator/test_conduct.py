"""A session leaves alone the arrays of its caller, and the answers that it gave."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from runtimes.spec import Arrays, TensorSpec
from runtimes.validator.conduct import Conduct, as_callers_do, repeated
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
    assert conduct.problems == ["a later call overwrites its answer y to noise 0"]


def test_two_arrays_that_are_answers_in_turn_are_named() -> None:
    buffers, calls = [np.zeros(3, np.float32) for _ in range(2)], iter(range(9))

    def reuse(arrays: Arrays) -> Arrays:
        buffer = buffers[next(calls) % 2]
        np.copyto(buffer, arrays["x"])
        return {"y": buffer}

    conduct = Conduct()
    for number in range(2):
        conduct.run(reuse, f"noise {number}", {"x": ONES * number})
    assert conduct.problems == []
    conduct.run(reuse, "noise 2", {"x": ONES * 2})
    assert conduct.problems == ["a later call overwrites its answer y to noise 0"]


INPUTS = [{"x": np.arange(6, dtype=np.float32).reshape(2, 3) + number} for number in range(2)]


def handled(run: Callable[[Arrays], Arrays]) -> set[str]:
    """How callers handled their arrays where the answers are not the inputs times two."""
    wrong = set()
    for answer in as_callers_do(run, [{"x": each["x"].copy()} for each in INPUTS]):
        if not np.array_equal(answer.outputs["y"], 2 * INPUTS[answer.place]["x"]):
            wrong.add(answer.how)
    return wrong


def test_a_session_does_not_care_how_callers_handle_arrays() -> None:
    assert handled(lambda arrays: {"y": 2 * arrays["x"]}) == set()


def test_memory_is_not_always_in_the_order_of_the_numbers() -> None:
    def reads_in_order(arrays: Arrays) -> Arrays:
        x = arrays["x"]
        strides = np.empty(x.shape, x.dtype).strides
        return {"y": 2 * np.lib.stride_tricks.as_strided(x, x.shape, strides)}

    assert handled(reads_in_order) == {"from arrays that are not contiguous"}


def test_an_array_may_hold_other_inputs_than_before() -> None:
    answers: dict[int, Arrays] = {}
    given: list[Arrays] = []  # so that no other array takes an identity

    def looks_up(arrays: Arrays) -> Arrays:
        given.append(arrays)
        answer = answers.setdefault(id(arrays["x"]), {"y": 2 * arrays["x"]})
        return {"y": answer["y"].copy()}

    assert handled(looks_up) == {"from arrays that held other inputs before"}


def test_a_caller_may_write_to_its_answers() -> None:
    answers: dict[bytes, Arrays] = {}

    def looks_up(arrays: Arrays) -> Arrays:
        return answers.setdefault(arrays["x"].tobytes(), {"y": 2 * arrays["x"]})

    assert handled(looks_up) == {"after its caller wrote to an earlier answer"}


def test_the_first_samples_are_repeated_after_others_that_cost_little() -> None:
    probes = synthetic_probes({"x": TensorSpec(shape=(2, 3))}, {})
    indices = repeated(probes)
    assert indices[-2:] == [1, 0]
    assert len(set(indices)) == len(indices) == 6
    assert {probes[index].kind for index in indices[:-2]} <= {"noise", "edge"}


def test_a_single_probe_is_repeated() -> None:
    assert repeated(synthetic_probes({"x": TensorSpec(shape=(2, 3))}, {})[:1]) == [0]
