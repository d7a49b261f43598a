"""Judge artifacts: load, probe, compare, time; one row per artifact and device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runtimes.artifact.artifact import Artifact
from runtimes.artifact.gates import Gates
from runtimes.errors import ArtifactError, BurnishError, Untrusted
from runtimes.machine.devices import eager_device
from runtimes.machine.intel import intel_devices
from runtimes.machine.machine import cores
from runtimes.process.process import Child
from runtimes.progress import Advance, Tell, task, watched
from runtimes.results import GateResult, Parent, Row, Speed, Status
from runtimes.session import SessionOptions, runtime_of, unavailable
from runtimes.spec import Arrays
from runtimes.validator.defaults import (
    BUDGET_SECONDS,
    PROBES_PER_CALL,
    REPEATED_PROBES,
    REQUEST_SECONDS,
)
from runtimes.validator.evidence import Evidence
from runtimes.validator.gates import gates
from runtimes.validator.host import ArtifactOpener, Opener, SessionHost
from runtimes.validator.parity import summarize
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference
from runtimes.validator.rows import blank_row, end_with_error, settle
from runtimes.validator.sizes import sizes_tried
from runtimes.validator.speed import speed
from runtimes.validator.speed.alone import alone

EagerOpener = Callable[[str], Opener | None]
"""Returns the opener of the eager model on a device of `eager_device`; None if there is none."""


@dataclass(frozen=True)
class Target:
    """One artifact to be judged on one device, by the gates of its manifest.

    Attributes:
        artifact, device: the artifact is run on the device.
        parent: the same format without the artifact's passes: the artifact must be no slower, and
            if it was pruned, smaller.
        reference: used instead of the build's if passes changed the model before export.
    """

    artifact: Artifact
    device: str
    parent: Artifact | None = None
    reference: Reference | None = None

    @property
    def gates(self) -> Gates:
        """Requirements on the artifact."""
        return self.artifact.manifest.gates


def default_options(trust: bool = False) -> SessionOptions:
    """Return the options of every session: a thread for each core this process may use."""
    return SessionOptions(threads=len(cores()), trust=trust)


def start(target: Target, options: SessionOptions, log: Path | None = None) -> Child:
    """Start the process of one artifact's session."""
    opener = ArtifactOpener(target.artifact.path, target.device, options, target.artifact.trust)
    session = f"the {target.artifact.manifest.format} session of {target.artifact.path.name}"
    return Child(
        partial(SessionHost, opener),
        what=f"{session} on {target.device}",
        log=log,
        torch=runtime_of(target.artifact).needs_torch,
    )


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
        alive: dict[int, Child] = {}
        with line.task("checked", len(targets)) as advance:
            for index, target in enumerate(targets):
                activity = f"checking the numbers of {target.artifact.path.name} on {target.device}"
                with _timed_activity(progress, activity):  # it times the cold start
                    row, child = _check(target, target.reference or reference, options, log, stack)
                rows.append(row)
                if child is not None:
                    alive[index] = child
                advance(1)
        if not budget:
            return rows
        timed = stack.enter_context(line.task("timed", len(alive)))
        for device in dict.fromkeys(targets[index].device for index in alive):
            on_device = {
                index: targets[index] for index in alive if targets[index].device == device
            }
            children = {index: alive[index] for index in on_device}
            names = [target.artifact.path.name for target in on_device.values()]
            opener = eager(eager_device(device))
            with _timed_activity(progress, f"timing {', '.join(names)} on {device}"):
                speeds = _time(children, on_device, opener, device, budget, log, options)
                for index, measured in speeds:
                    rows[index] = _with_speed(
                        rows[index], measured, children[index], targets[index]
                    )
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
) -> tuple[Row, Child | None]:
    """Judge all gates but speed; return the session's process, or None if it has ended."""
    row = blank_row(target.artifact, target.device)
    try:
        problem = unavailable(target.artifact, target.device)
    except BurnishError as error:  # there is no such runtime here
        return end_with_error(row, "loads", error), None
    if problem:
        return _built(row, problem, target), None
    child = start(target, options, log)
    stack.callback(child.kill)
    try:
        repeated = reference.probes[:REPEATED_PROBES]
        with task("probes", len(reference.probes) + len(repeated)) as advance:
            first = _answers(child, reference.probes, advance)
            second = _answers(child, repeated, advance)
        layers = child.call("compute_layers")
        return _judged(target, row, reference, first, second, layers), child
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
        tried = sizes_tried([probe.sizes for probe in reference.probes], manifest.dims)
        parity = parity.model_copy(update={"sizes": tried})
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


def _time(
    alive: Mapping[int, Child],
    targets: Mapping[int, Target],
    opener: Opener | None,
    device: str,
    budget: float,
    log: Path | None,
    options: SessionOptions,
) -> Iterator[tuple[int, Speed | BurnishError]]:
    """Yield each target's speed, measured in turns with eager and with the targets' parents."""
    names = {index: str(targets[index].artifact.path) for index in alive}
    children = {names[index]: child for index, child in alive.items()}
    with contextlib.ExitStack() as stack:
        if opener is not None:
            session = f"the eager model on {eager_device(device)}"
            base = Child(partial(SessionHost, opener), what=session, log=log, torch=True)
            stack.callback(base.kill)
            children["eager"] = base
        for target in targets.values():
            parent = target.parent
            if parent is not None and str(parent.path) not in children:
                child = start(Target(parent, device), options, log)
                stack.callback(child.kill)
                children[str(parent.path)] = child
        collected = speed.collect(children, budget, "eager" if opener else None)
    for index, target in targets.items():
        yield index, _speed(collected, names[index], target.parent)


def _speed(collected: speed.Collected, name: str, parent: Artifact | None) -> Speed | BurnishError:
    """Return the speed of one session, with the ratios to eager and to its parent."""
    measured = collected.speed(name, "eager")
    if parent is None or isinstance(measured, BurnishError):
        return measured
    comparison = Parent(name=parent.manifest.name, size_bytes=parent.size_bytes)
    to_parent = collected.speed(name, str(parent.path))
    if isinstance(to_parent, Speed):
        ratio = {"speedup": to_parent.speedup, "ci95": to_parent.ci95}
        comparison = comparison.model_copy(update=ratio)
    return measured.model_copy(update={"parent": comparison})


def _with_speed(row: Row, measured: Speed | BurnishError, child: Child, target: Target) -> Row:
    if isinstance(measured, BurnishError):
        return end_with_error(row, "speed", measured)
    manifest, deadline_ms = target.artifact.manifest, target.gates.deadline_ms
    try:
        complete = alone(measured, child, manifest, target.device, deadline_ms)
    except BurnishError as error:
        return end_with_error(row, "speed", error)
    results = [*row.gates, gates.speed(complete, target.gates)]
    if to_parent := gates.parent(complete, target.gates):
        results.append(to_parent)
    results.append(gates.deadline(complete, target.gates))
    notes = [*row.notes, *_other_device_note(complete, target.device)]
    return settle(row.model_copy(update={"speed": complete, "gates": results, "notes": notes}))


def _other_device_note(measured: Speed, device: str) -> list[str]:
    """Return a note if the eager model was timed on another device than the artifact."""
    timed_on = eager_device(device)
    if measured.speedup is None or timed_on == device:
        return []
    name = intel_devices()[device]
    return [f"on {device} ({name}) the speed-up is over the eager model on {timed_on}"]
