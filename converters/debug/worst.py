"""The probe to debug on: the one whose outputs are furthest from the truth."""

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


@dataclass(frozen=True)
class ProbeAnswers:
    """Answers of an artifact, run by its own engine, to the probes.

    Attributes:
        worst: index of the probe whose outputs are furthest from the truth.
        measured: the outputs on that probe.
        stopped: the engine's errors on the probes that it does not run on, by index.
    """

    worst: int
    measured: list[Measure]
    stopped: dict[int, str] = field(default_factory=dict)


def run_probes(
    artifact: Artifact, reference: Reference, device: str = "cpu", trust: bool = False
) -> ProbeAnswers:
    """Run the probes that an artifact of this precision is judged on.

    Raises BurnishError if it runs on none.
    """
    lossless = artifact.manifest.precision == "fp32"
    worst: int | None = None
    worst_measures: list[Measure] = []
    largest = -math.inf
    stopped: dict[int, str] = {}
    with load(artifact.path, device, SessionOptions(trust=trust)) as session:
        for index, probe in enumerate(counted(reference.probes, "probes")):
            is_edge = not probe.ordinary
            if is_edge and not lossless:
                continue  # float16 or int8 cannot hold a thousand times the usual input
            try:
                outputs = session.run(probe.inputs)
            except Exception as error:  # engines fail in any way their libraries please
                stopped[index] = str(error)
                continue
            measures = _measures(outputs, reference, index)
            badness = max(_badness(measured, lossless, is_edge) for measured in measures)
            if badness > largest:
                worst, worst_measures, largest = index, measures, badness
    if worst is None:
        errors = [f"{reference.probes[index].name!r}: {error}" for index, error in stopped.items()]
        raise BurnishError("the artifact runs on no probe: " + "; ".join(errors))
    return ProbeAnswers(worst, worst_measures, stopped)


def exceeded(answers: ProbeAnswers, limit: Limit) -> Measure | None:
    """Return the worst of the outputs beyond the limit, if one is."""
    over = [measured for measured in answers.measured if limit.exceeded(measured)]
    return max(over, key=lambda measured: measured.error, default=None)


def _measures(outputs: Arrays, reference: Reference, index: int) -> list[Measure]:
    eager, truth = reference.eager[index], reference.truth[index]
    return [measure(0, outputs[name], eager[name], exact) for name, exact in truth.items()]


def _badness(measured: Measure, lossless: bool, is_edge: bool) -> float:
    """Return the distance in units of the gate that judges it."""
    if not lossless:
        return -measured.sqnr_db
    return measured.noise / (EDGE_ALLOWANCE if is_edge else 1)
