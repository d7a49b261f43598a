"""Conduct of a session beside its numbers: what it does to its caller's arrays, and to its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from runtimes.spec import Arrays
from runtimes.validator.defaults import REPEATED_COST, REPEATED_PROBES
from runtimes.validator.probes import Probe


@dataclass
class Conduct:
    """Run a session, and note each array that it changed and should not have.

    `problems`: sentences about the session, each once.
    """

    problems: list[str] = field(default_factory=list)
    _last: tuple[str, Arrays, Arrays] | None = None

    def run(self, run: Callable[[Arrays], Arrays], name: str, inputs: Arrays) -> Arrays:
        """Return the outputs for the inputs of the probe `name`."""
        before = _copies(inputs)
        outputs = run(inputs)
        for changed in _differing(inputs, before):
            self._note(f"it changes the array of its caller's input {changed} (at {name})")
        if self._last is not None:
            previous, kept, copies = self._last
            for changed in _differing(kept, copies):
                self._note(f"the next call overwrites its answer {changed} to {previous}")
        self._last = name, outputs, _copies(outputs)
        return outputs

    def _note(self, problem: str) -> None:
        kind = problem.partition(" (at ")[0].partition(" to ")[0]
        if not any(kind in earlier for earlier in self.problems):
            self.problems.append(problem)


def _copies(arrays: Arrays) -> Arrays:
    return {name: array.copy() for name, array in arrays.items()}


def _differing(arrays: Arrays, copies: Arrays) -> list[str]:
    """Return the names of arrays whose bytes are no longer those of their copies."""
    return [name for name, array in arrays.items() if array.tobytes() != copies[name].tobytes()]


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
