"""Judge artifacts: load, probe, compare, time; one row per artifact and device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runtimes.errors import ArtifactError, BurnishError, Untrusted
from runtimes.machine.devices import eager_device
from runtimes.process.process import Child
from runtimes.progress import Advance, Tell, task, watched
from runtimes.results import GateResult, Outcome, Row, Status
from runtimes.session import SessionOptions, unavailable
from runtimes.spec import Arrays
from runtimes.validator.defaults import (
    BUDGET_SECONDS,
    PROBES_PER_CALL,
    REPEATED_PROBES,
    REQUEST_SECONDS,
)
from runtimes.validator.evidence import Evidence, Target
from runtimes.validator.gates import gates
from runtimes.validator.host import Opener, default_options, start
from runtimes.validator.parity import summarize
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference
from runtimes.validator.rows import blank_row, end_with_error, settle
from runtimes.validator.speed.timing import Checked, Timing, with_speed

__all__ = ["EagerOpener", "Target", "default_options", "start", "validate"]

EagerOpener = Callable[[str], Opener | None]
"""Returns the opener of the eager model on a device of `eager_device`; None if there is none."""


def validate(
    targets: Sequence[Target],
    reference: Reference,
    eager: EagerOpener,
    *,
    budget: float = BUDGET_SECONDS,
    log: Path | None = None,
    progress: Tell = lambda message: None,
    trust: bool = False,
) -> list[Row]:
    """Judge every target; a target that fails, crashes or hangs does not stop the others.

    Args:
        targets: artifacts and devices, in the order of the rows to be returned.
        reference: probes with eager's outputs and the truth.
        eager: opens the eager model for the speed ratio; if it returns None, speed is not judged.
        budget: seconds of timing per artifact; 0 leaves speed unmeasured.
        log: file for the sessions' own output.
        progress: takes a message about each activity; a `Watcher` also takes counts.
        trust: also open artifacts that are programs and were not built here.
    """
    options = default_options(trust)
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        line = stack.enter_context(watched(progress, "artifacts", overall=True))
        alive: dict[int, Checked] = {}
        with line.task("checked", len(targets)) as advance:
            for index, target in enumerate(targets):
                activity = f"checking the numbers of {target.artifact.path.name} on {target.device}"
                with _timed_activity(progress, activity):  # it times the cold start
                    row, checked = _check(
                        target, target.reference or reference, options, log, stack
                    )
                rows.append(row)
                if checked is not None:
                    alive[index] = checked
                advance(1)
        if not budget:
            return rows
        timed = stack.enter_context(line.task("timed", len(alive)))
        for device in dict.fromkeys(checked.target.device for checked in alive.values()):
            on_device = {
                index: checked
                for index, checked in alive.items()
                if checked.target.device == device
            }
            names = [checked.target.artifact.path.name for checked in on_device.values()]
            opener = eager(eager_device(device))
            with _timed_activity(progress, f"timing {', '.join(names)} on {device}"):
                timing = Timing(device, on_device, budget, options, log)
                for index, measured in timing.measure(opener):
                    rows[index] = with_speed(rows[index], measured, on_device[index].target)
                    timed(1)
    return rows


@contextlib.contextmanager
def _timed_activity(progress: Tell, activity: str) -> Iterator[None]:
    """Announce an activity that measures time, and open its line of progress."""
    progress(activity)
    with watched(progress, activity, timed=True):
        yield


def _check(
    target: Target,
    reference: Reference,
    options: SessionOptions,
    log: Path | None,
    stack: contextlib.ExitStack,
) -> tuple[Row, Checked | None]:
    """Judge all gates but speed; return the session, or None if it has ended."""
    row = blank_row(target.artifact, target.device)
    try:
        problem = unavailable(target.artifact, target.device)
    except BurnishError as error:  # there is no such runtime here
        return end_with_error(row, "loads", error), None
    if problem:
        return _built(row, problem, target), None
    child = start(target.artifact, target.device, options, log)
    stack.callback(child.kill)
    try:
        repeated = reference.probes[:REPEATED_PROBES]
        with task("probes", len(reference.probes) + len(repeated)) as advance:
            first = _answers(child, reference.probes, advance)
            second = _answers(child, repeated, advance)
        layers = child.call("compute_layers")
        row = _judged(target, row, reference, first, second, layers)
        wrong = any(result.outcome is Outcome.FAILS for result in row.gates)
        return row, Checked(target, child, reference, None if wrong else first[: len(second)])
    except (ArtifactError, Untrusted) as error:
        return end_with_error(row, "loads", error), None
    except BurnishError as error:
        return end_with_error(row, "runs", error), None


def _answers(child: Child, probes: Sequence[Probe], advance: Advance) -> list[Arrays]:
    """Return a session's outputs for each probe.

    Probes are sent some at a time: a process keeps the memory that it once held.
    """
    answers: list[Arrays] = []
    while len(answers) < len(probes):
        sent = probes[len(answers) : len(answers) + PROBES_PER_CALL]
        inputs = [(probe.name, probe.inputs) for probe in sent]
        answers += child.call("answer", inputs, timeout=REQUEST_SECONDS)
        advance(len(sent))
    return answers


def _judged(
    target: Target, row: Row, reference: Reference, first: Any, second: Any, layers: Any
) -> Row:
    manifest = target.artifact.manifest
    comparable = all(
        _shapes(outputs) == _shapes(truth)
        for outputs, truth in zip(first, reference.truth, strict=True)
    )
    parity = row.parity
    if comparable:
        classification, lossless = manifest.task == "classification", manifest.precision == "fp32"
        parity = summarize(first, reference, classification, lossless)
    evidence = Evidence(manifest, reference, first, second, parity, target.gates, layers)
    loads = GateResult(gate="loads", ok=True, detail="loaded and run")
    results = [loads, *gates.judge(evidence), *_size(target)]
    return settle(row.model_copy(update={"parity": parity, "gates": results}))


def _shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _size(target: Target) -> list[GateResult]:
    result = gates.size(target.artifact, target.parent)
    return [result] if result else []


def _built(row: Row, problem: str, target: Target) -> Row:
    """Judge an artifact that cannot run here: it can still be too large."""
    row = settle(row.model_copy(update={"gates": _size(target)}))
    built = {"status": Status.BUILT, "reason": f"cannot run here: {problem}"}
    return row if row.status is Status.FAILED else row.model_copy(update=built)
