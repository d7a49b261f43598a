"""Which probe to debug on: the one whose outputs are furthest from the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from converters.debug.judge import Limit, Measure, measure
from runtimes.artifact.artifact import Artifact
from runtimes.errors import BurnishError
from runtimes.progress import counted
from runtimes.session import SessionOptions, load
from runtimes.spec import Arrays
from runtimes.validator.defaults import EDGE_ALLOWANCE
from runtimes.validator.reference import Reference


@dataclass
class ProbeAnswers:
    """What an artifact, run by its own engine, makes of the probes.

    Attributes:
        worst: index of the probe whose outputs are furthest from the truth, and what is wrong there.
        stopped: what the engine says on the probes that it does not run on, by index.
    """

    worst: int = -1
    measured: list[Measure] = field(default_factory=list)
    stopped: dict[int, str] = field(default_factory=dict)


def ask(artifact: Artifact, reference: Reference, device: str = "cpu", trust: bool = False) -> ProbeAnswers:
    """Run every probe that an artifact of this precision is judged on.

    Raises BurnishError where it runs on none.
    """
    lossless = artifact.manifest.precision == "fp32"
    answers, largest = ProbeAnswers(), -math.inf
    with load(artifact.path, device, SessionOptions(trust=trust)) as session:
        for index, probe in enumerate(counted(reference.probes, "probes")):
            if probe.kind == "edge" and not lossless:
                continue  # what float16 or int8 does to a thousand times the usual input is its nature
            try:
                found = session.run(probe.inputs)
            except Exception as error:  # engines fail in any way their libraries please
                answers.stopped[index] = str(error)
                continue
            measured = _measured(found, reference, index)
            size = max(_badness(one, lossless, probe.kind == "edge") for one in measured)
            if size > largest:
                answers.worst, answers.measured, largest = index, measured, size
    if answers.worst < 0:
        told = (f"{reference.probes[index].name!r}: {error}" for index, error in answers.stopped.items())
        raise BurnishError("the artifact runs on no probe: " + "; ".join(told))
    return answers


def exceeded(answers: ProbeAnswers, limit: Limit) -> Measure | None:
    """The worst of the outputs beyond the limit, if one is."""
    over = [one for one in answers.measured if limit.exceeded(one)]
    return max(over, key=lambda one: one.error, default=None)


def _measured(found: Arrays, reference: Reference, index: int) -> list[Measure]:
    eager, truth = reference.eager[index], reference.truth[index]
    return [measure(0, found[name], eager[name], exact) for name, exact in truth.items()]


def _badness(one: Measure, lossless: bool, edge: bool) -> float:
    """In units of the gate that judges it."""
    return one.noise / (EDGE_ALLOWANCE if edge else 1) if lossless else -one.sqnr_db
