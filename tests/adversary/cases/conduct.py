"""What a session does beside its numbers: states, threads, arrays that are not its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from runtimes.spec import Arrays
from tests.adversary.cases.finite import right
from tests.adversary.harness import Artifact, Case, Run, changed, scaled, the_only
from tests.adversary.subjects.states import (
    CONSTANT,
    COUNTED,
    COUNTING,
    DROPPING,
    PASSING,
    PLAIN,
    STEP,
)


def _remembering(share: float) -> Artifact:
    """A part of the answer before is in each answer."""

    def artifact(run: Run) -> Run:
        last: dict[str, float] = {}

        def answer(inputs: Arrays) -> Arrays:
            outputs = run(inputs)
            for name, array in outputs.items():
                mean = float(array.mean())
                array += np.float32(share * last.get(name, 0.0))
                last[name] = mean
            return outputs

        return answer

    return artifact


def _numbered(wrong: Callable[[int], bool]) -> Artifact:
    """Wrong at some calls, counted from 0."""

    def artifact(run: Run) -> Run:
        calls = iter(range(10**9))
        return lambda inputs: scaled(run(inputs), 1.3) if wrong(next(calls)) else run(inputs)

    return artifact


def _late(run: Run) -> Run:
    """The answer to the call before, if that had the same shape."""
    last: list[Arrays] = []

    def answer(inputs: Arrays) -> Arrays:
        outputs = run(inputs)
        before = last.pop() if last else outputs
        last.append({name: array.copy() for name, array in outputs.items()})
        same = all(before[name].shape == array.shape for name, array in outputs.items())
        return before if same else outputs

    return answer


def _after_large(run: Run) -> Run:
    """Wrong after an input of large values, for good."""
    broken = threading.Event()

    def answer(inputs: Arrays) -> Arrays:
        outputs = scaled(run(inputs), 1.3) if broken.is_set() else run(inputs)
        if np.abs(the_only(inputs)).max() > 1000:
            broken.set()
        return outputs

    return answer


def _cached_by_sum(run: Run) -> Run:
    """Looks answers up by the sign of the input's first value."""
    answers: dict[object, Arrays] = {}

    def answer(inputs: Arrays) -> Arrays:
        x = the_only(inputs)
        return {
            name: array.copy()
            for name, array in answers.setdefault(
                (x.shape, bool(x.flat[0] > 0)), run(inputs)
            ).items()
        }

    return answer


def _largest_batch(run: Run) -> Run:
    """A scratch buffer of the largest batch: what an earlier one left is in the mean."""
    scratch = np.zeros((64, 3), np.float32)

    def answer(inputs: Arrays) -> Arrays:
        outputs = run(inputs)
        for name, array in outputs.items():
            scratch[: len(array)] = array
            outputs[name] = array + scratch.mean(0) * np.float32(0.1)
        return outputs

    return answer


def _shared_scratch(run: Run) -> Run:
    """Threads share one buffer for the input: who comes second overwrites that of the first."""
    main = threading.get_ident()
    changed = threading.Condition()
    scratch: list[Arrays] = []

    def answer(inputs: Arrays) -> Arrays:
        if threading.get_ident() == main:
            return run(inputs)
        with changed:
            scratch.append(inputs)
            count = len(scratch)
            changed.notify_all()
            changed.wait_for(lambda: len(scratch) > count, timeout=0.2)
            return run(scratch[-1])

    return answer


def _main_thread_only(run: Run) -> Run:
    """Weights that only the thread that loaded them has."""
    main = threading.get_ident()

    def answer(inputs: Arrays) -> Arrays:
        outputs = run(inputs)
        return outputs if threading.get_ident() == main else scaled(outputs, 0.0)

    return answer


def _writing(name: str, change: Callable[[Any], Any]) -> Artifact:
    """Writes to its caller's array after it has read it."""

    def artifact(run: Run) -> Run:
        def answer(inputs: Arrays) -> Arrays:
            outputs = run(inputs)
            inputs[name][...] = change(inputs[name])
            return outputs

        return answer

    return artifact


def _one_buffer(run: Run) -> Run:
    """Each answer of a shape is in the same memory."""
    buffers: dict[object, Arrays] = {}

    def answer(inputs: Arrays) -> Arrays:
        outputs = run(inputs)
        key = tuple(array.shape for array in outputs.values())
        kept = buffers.setdefault(key, outputs)
        for name, array in outputs.items():
            kept[name][...] = array
        return dict(kept)

    return answer


def _two_buffers(run: Run) -> Run:
    """One of the outputs is in the same memory each time."""
    buffers: dict[object, Any] = {}

    def answer(inputs: Arrays) -> Arrays:
        outputs = run(inputs)
        state = outputs["next_state"]
        kept = buffers.setdefault(state.shape, state)
        kept[...] = state
        return {**outputs, "next_state": kept}

    return answer


def _in_turn(count: int) -> Artifact:
    """Some buffers hold the answers of a shape in turn."""

    def artifact(run: Run) -> Run:
        buffers: dict[object, Arrays] = {}
        calls = iter(range(10**9))

        def answer(inputs: Arrays) -> Arrays:
            outputs = run(inputs)
            key = (next(calls) % count, *(array.shape for array in outputs.values()))
            kept = buffers.setdefault(key, outputs)
            for name, array in outputs.items():
                kept[name][...] = array
            return dict(kept)

        return answer

    return artifact


def _by_identity(run: Run) -> Run:
    """Answers as before if it is given the very same array."""
    last: dict[str, Arrays] = {}

    def answer(inputs: Arrays) -> Arrays:
        before = last.get("inputs")
        if before is None or any(before[name] is not array for name, array in inputs.items()):
            last.update(inputs=dict(inputs), outputs=run(inputs))
        return {name: array.copy() for name, array in last["outputs"].items()}

    return answer


def _looked_up(run: Run) -> Run:
    """Looks up what it has answered before, and returns that very array."""
    answers: dict[object, Arrays] = {}

    def answer(inputs: Arrays) -> Arrays:
        key = tuple((array.shape, array.tobytes()) for array in inputs.values())
        return dict(answers.setdefault(key, run(inputs)))

    return answer


def _random(scale: float) -> Artifact:
    def artifact(run: Run) -> Run:
        rng = np.random.default_rng(0)

        def answer(inputs: Arrays) -> Arrays:
            outputs = run(inputs)
            for array in outputs.values():
                array *= 1 + scale * rng.standard_normal(array.shape).astype(np.float32)
            return outputs

        return answer

    return artifact


def _own_state(run: Run) -> Run:
    """Keeps the state itself and ignores the given one."""
    states: dict[int, Any] = {}

    def answer(inputs: Arrays) -> Arrays:
        batch = len(inputs["x"])
        state = states.get(batch, inputs["state"])
        outputs = run({**inputs, "state": state})
        states[batch] = outputs["next_state"].copy()
        return outputs

    return answer


def _state(change: Callable[[Arrays, Arrays], Any]) -> Artifact:
    """Another next state."""
    return changed(lambda inputs, outputs: {**outputs, "next_state": change(inputs, outputs)})


CASES = [
    Case("a half of the answer before", PLAIN, _remembering(0.5), "deterministic"),
    Case("a thousandth of the answer before", PLAIN, _remembering(1e-3), "deterministic"),
    Case("a tenth of the answer before", PLAIN, _remembering(0.1), "deterministic", "int8"),
    Case("the first call is wrong", PLAIN, _numbered(lambda call: call == 0), "deterministic"),
    Case(
        "the first three calls are wrong", PLAIN, _numbered(lambda call: call < 3), "deterministic"
    ),
    Case(
        "every second call is wrong", PLAIN, _numbered(lambda call: call % 2 == 1), "deterministic"
    ),
    Case("every tenth call is wrong", PLAIN, _numbered(lambda call: call % 10 == 9), "parity"),
    Case("wrong from the 30th call on", PLAIN, _numbered(lambda call: call >= 30), "deterministic"),
    Case("answers to the call before", PLAIN, _late, "parity"),
    Case("wrong after a large input", PLAIN, _after_large, "deterministic"),
    Case("looks its answers up", PLAIN, _cached_by_sum, "parity"),
    Case("rows of earlier batches", PLAIN, _largest_batch, "deterministic"),
    Case("threads share a buffer", PLAIN, _shared_scratch, "deterministic"),
    Case("other threads have no weights", PLAIN, _main_thread_only, "deterministic"),
    Case("other threads have no weights", PLAIN, _main_thread_only, "deterministic", "int8"),
    Case("writes zeros to its input", PLAIN, _writing("x", np.zeros_like), "deterministic"),
    Case("normalizes its input in place", PLAIN, _writing("x", lambda x: x / 2), "deterministic"),
    Case("writes to its state", STEP, _writing("state", lambda state: state + 1), "deterministic"),
    Case("writes to its input", PLAIN, _writing("x", np.tanh), "deterministic", "fp16"),
    Case("one buffer for all answers", PLAIN, _one_buffer, "deterministic"),
    Case("two buffers in turn", PLAIN, _in_turn(2), "deterministic"),
    Case("three buffers in turn", PLAIN, _in_turn(3), "deterministic"),
    Case("knows arrays by identity", PLAIN, _by_identity, "deterministic"),
    Case("returns an array that it keeps", PLAIN, _looked_up, "deterministic"),
    Case("returns an array that it keeps", PLAIN, _looked_up, "deterministic", "int8"),
    Case("one buffer for the state", STEP, _two_buffers, "deterministic"),
    Case("a little random", PLAIN, _random(1e-4), "deterministic"),
    Case("random", PLAIN, _random(0.1), "deterministic", "int8"),
    Case("keeps the state itself", STEP, _own_state, "deterministic"),
    Case("returns the given state", STEP, _state(lambda i, o: i["state"].copy()), "parity"),
    Case("returns no state", STEP, _state(lambda i, o: 0 * o["next_state"]), "parity"),
    Case(
        "returns a clipped state",
        STEP,
        _state(lambda i, o: o["next_state"].clip(-0.2, 0.2)),
        "parity",
    ),
    Case(
        "ignores the given state",
        STEP,
        lambda run: lambda inputs: run({**inputs, "state": 0 * inputs["state"]}),
        "parity",
    ),
    Case("an input is an output (right)", PASSING, right, None),
    Case(
        "an output is the array of its caller (right: the session copies it)",
        PASSING,
        lambda run: lambda inputs: {**run(inputs), "copy": inputs["x"]},
        None,
    ),
    Case("explicit state (right)", STEP, right, None),
    Case("explicit state (right)", STEP, right, None, "int8"),
    Case("eager keeps a state", COUNTING, right, "reference"),
    Case("eager counts its calls (right)", COUNTED, right, None),
    Case("eager drops out", DROPPING, right, "reference"),
    Case("eager is constant", CONSTANT, right, "reference"),
]
