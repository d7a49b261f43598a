"""Conduct of a session beside its numbers: what it does to its caller's arrays, and to its answers."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from runtimes.spec import Arrays
from runtimes.validator.defaults import REMEMBERED_ANSWERS, REPEATED_COST, REPEATED_PROBES
from runtimes.validator.probes import Probe

Digests = dict[str, int]


@dataclass(frozen=True)
class _Given:
    """An answer as it was given to the probe `name`."""

    name: str
    outputs: Arrays
    digests: Digests


@dataclass
class Conduct:
    """Run a session, and note each array that it changed and should not have.

    `problems`: sentences about the session, each once.
    """

    problems: list[str] = field(default_factory=list)
    _given: deque[_Given] = field(default_factory=lambda: deque(maxlen=REMEMBERED_ANSWERS))

    def run(self, run: Callable[[Arrays], Arrays], name: str, inputs: Arrays) -> Arrays:
        """Return the outputs for the inputs of the probe `name`."""
        before = _digests(inputs)
        outputs = run(inputs)
        for changed in _changed(inputs, before):
            self._note(f"it changes the array of its caller's input {changed} (at {name})")
        for given in self._given:
            for changed in _changed(given.outputs, given.digests):
                self._note(f"a later call overwrites its answer {changed} to {given.name}")
        self._given.append(_Given(name, outputs, _digests(outputs)))
        return outputs

    def _note(self, problem: str) -> None:
        kind = problem.partition(" (at ")[0].partition(" to ")[0]
        if not any(kind in earlier for earlier in self.problems):
            self.problems.append(problem)


def _digests(arrays: Arrays) -> Digests:
    return {name: zlib.crc32(array.tobytes()) for name, array in arrays.items()}


def _changed(arrays: Arrays, digests: Digests) -> list[str]:
    """Return the names of arrays whose bytes are no longer those of these digests."""
    return [name for name, digest in _digests(arrays).items() if digest != digests[name]]


@dataclass(frozen=True)
class HandledAnswer:
    """The answer to one of some inputs, by its place among them, and how the call was made."""

    place: int
    outputs: Arrays
    how: str


def as_callers_do(
    run: Callable[[Arrays], Arrays], inputs: Sequence[Arrays]
) -> Iterator[HandledAnswer]:
    """Answer inputs that are handled as programs handle their arrays.

    They are views of other arrays, are filled again for the next call, and the answers are worked on
    in place.
    """
    yield _answered(run, 0, _with_gaps(inputs[0]), "from arrays that are not contiguous")
    reused = {name: array.copy() for name, array in inputs[0].items()}
    for place, arrays in enumerate(inputs):
        if any(array.shape != reused[name].shape for name, array in arrays.items()):
            continue
        for name, array in arrays.items():
            reused[name][...] = array
        yield _answered(run, place, reused, "from arrays that held other inputs before")
    for array in run(inputs[0]).values():
        if array.flags.writeable:
            array[...] = 0
    yield _answered(run, 0, inputs[0], "after its caller wrote to an earlier answer")


def _answered(
    run: Callable[[Arrays], Arrays], place: int, inputs: Arrays, how: str
) -> HandledAnswer:
    outputs = {name: array.copy() for name, array in run(inputs).items()}
    return HandledAnswer(place, outputs, how)


def _with_gaps(arrays: Arrays) -> Arrays:
    """Return the same numbers with their axes in another order in memory, and others between them."""
    views = {}
    for name, array in arrays.items():
        wide = np.zeros((*array.shape[::-1], 2), array.dtype)
        views[name] = wide[..., 0].transpose()
        views[name][...] = array
    return views


def repeated(probes: Sequence[Probe]) -> list[int]:
    """Return the indices of the probes that are run again, in another order than before.

    The first samples, and others drawn by a fixed seed from those that cost little.
    """
    cost = [sum(array.size for array in probe.inputs.values()) for probe in probes]
    cheap = [
        index
        for index in range(2, len(probes))
        if cost[index] <= REPEATED_COST * cost[0] and probes[index].kind != "nan"
    ]
    first = list(range(min(2, len(probes))))
    rng = np.random.default_rng(0)
    more = rng.permutation(cheap)[: REPEATED_PROBES - len(first)].tolist() if cheap else []
    return [*more, *reversed(first)]
