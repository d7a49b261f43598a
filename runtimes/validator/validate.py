"""Judge artifacts: load, probe, compare, time; one row per artifact and device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runtimes.artifact.artifact import Artifact, Manifest
from runtimes.artifact.gates import Gates
from runtimes.errors import ArtifactError, BurnishError, Untrusted
from runtimes.machine.devices import eager_device
from runtimes.machine.intel import intel_devices
from runtimes.machine.machine import burnish_version, cores, own_cpu
from runtimes.process.process import Child
from runtimes.progress import Advance, Tell, task, watched
from runtimes.results import GateResult, Parent, Row, Speed, Status
from runtimes.session import SessionOptions, runtime_of, unavailable
from runtimes.spec import Arrays
from runtimes.validator import gates
from runtimes.validator.defaults import ASKED_PROBES, BUDGET_SECONDS, REPEATED_PROBES, REQUEST_SECONDS
from runtimes.validator.host import ArtifactOpener, Opener, SessionHost
from runtimes.validator.parity import summarize
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference
from runtimes.validator.speed import speed
from runtimes.validator.speed.alone import alone

EagerOpener = Callable[[str], Opener | None]
"""Gives, for a device of `eager_device`, what opens the eager model there; None where there is none at hand."""


@dataclass(frozen=True)
class Target:
    """One artifact to be judged on one device, by the gates of its manifest.

    Attributes:
        artifact, device: what is run, and where.
        parent: the same format without the artifact's passes; what was made of it must be no slower, and what was
            pruned smaller.
        reference: instead of the build's, where passes changed the model before it was exported.
    """

    artifact: Artifact
    device: str
    parent: Artifact | None = None
    reference: Reference | None = None

    @property
    def gates(self) -> Gates:
        """What the artifact must meet."""
        return self.artifact.manifest.gates


def default_options(trust: bool = False) -> SessionOptions:
    """Every session gets the same threads: one for each core this process may use."""
    return SessionOptions(threads=len(cores()), trust=trust)


def start(target: Target, options: SessionOptions, log: Path | None = None) -> Child:
    """Start the process of one artifact's session."""
    opener = ArtifactOpener(target.artifact.path, target.device, options, target.artifact.trust)
    return Child(
        partial(SessionHost, opener),
        what=f"the {target.artifact.manifest.format} session of {target.artifact.path.name} on {target.device}",
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
        eager: opens the eager model for the speed ratio; where it gives None, speed is not judged.
        budget: seconds of timing per artifact; 0 leaves speed unmeasured.
        log: file for the sessions' own output.
        progress: told what is being done; a `Watcher` also how far it is.
        trust: open artifacts that are programs wherever they were built.
    """
    options = default_options(trust)
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        line = stack.enter_context(watched(progress, "artifacts", overall=True))
        alive: dict[int, Child] = {}
        with line.task("checked", len(targets)) as advance:
            for index, target in enumerate(targets):
                what = f"checking the numbers of {target.artifact.path.name} on {target.device}"
                progress(what)
                with watched(progress, what, timed=True):  # the cold start is
                    row, child = _check(target, target.reference or reference, options, log, stack)
                rows.append(row)
                if child is not None:
                    alive[index] = child
                advance(1)
        if not budget:
            return rows
        timed = stack.enter_context(line.task("timed", len(alive)))
        for device in dict.fromkeys(targets[index].device for index in alive):
            mine = {index: child for index, child in alive.items() if targets[index].device == device}
            what = f"timing {', '.join(targets[index].artifact.path.name for index in mine)} on {device}"
            progress(what)
            on_device = {index: targets[index] for index in mine}
            opener = eager(eager_device(device))
            with watched(progress, what, timed=True):
                for index, found in _time(mine, on_device, opener, device, budget, log, options):
                    rows[index] = _with_speed(rows[index], found, mine[index], targets[index])
                    timed(1)
    return rows


def _check(
    target: Target,
    reference: Reference,
    options: SessionOptions,
    log: Path | None,
    stack: contextlib.ExitStack,
) -> tuple[Row, Child | None]:
    """All gates but speed; the session's process goes on living where they hold."""
    row = _blank(target)
    try:
        problem = unavailable(target.artifact, target.device)
    except BurnishError as error:  # there is no such runtime here
        return _ended(row, "loads", error), None
    if problem:
        return _built(row, problem, target), None
    child = start(target, options, log)
    stack.callback(child.kill)
    try:
        again = reference.probes[:REPEATED_PROBES]
        with task("probes", len(reference.probes) + len(again)) as advance:
            first = _answers(child, reference.probes, advance)
            second = _answers(child, again, advance)
        layers = child.call("compute_layers")
        return _judged(target, row, reference, first, second, layers), child
    except (ArtifactError, Untrusted) as error:
        return _ended(row, "loads", error), None
    except BurnishError as error:
        return _ended(row, "runs", error), None


def _answers(child: Child, probes: Sequence[Probe], advance: Advance) -> list[Arrays]:
    """A session's outputs for each probe. They are asked some at a time: what a process once held it keeps."""
    found: list[Arrays] = []
    while len(found) < len(probes):
        asked = [(one.name, one.inputs) for one in probes[len(found) : len(found) + ASKED_PROBES]]
        found += child.call("answer", asked, timeout=REQUEST_SECONDS)
        advance(len(asked))
    return found


def _judged(target: Target, row: Row, reference: Reference, first: Any, second: Any, layers: Any) -> Row:
    classification = target.artifact.manifest.task == "classification"
    comparable = all(
        {name: array.shape for name, array in mine.items()} == {name: array.shape for name, array in truth.items()}
        for mine, truth in zip(first, reference.truth, strict=True)
    )
    lossless = target.artifact.manifest.precision == "fp32"
    parity = summarize(first, reference, classification, lossless) if comparable else row.parity
    evidence = gates.Evidence(target.artifact.manifest, reference, first, second, parity, target.gates, layers)
    results = [GateResult(gate="loads", ok=True, detail="loaded and run"), *gates.judge(evidence), *_size(target)]
    return _settle(row.model_copy(update={"parity": parity, "gates": results}))


def _size(target: Target) -> list[GateResult]:
    found = gates.size(target.artifact, target.parent)
    return [found] if found else []


def _built(row: Row, problem: str, target: Target) -> Row:
    """What cannot run here can still be too large."""
    row = _settle(row.model_copy(update={"gates": _size(target)}))
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
    """The speed of each target, measured in turns with eager and with the parents of those that have one."""
    names = {index: str(targets[index].artifact.path) for index in alive}
    children = {names[index]: child for index, child in alive.items()}
    with contextlib.ExitStack() as stack:
        if opener is not None:
            what = f"the eager model on {eager_device(device)}"
            base = Child(partial(SessionHost, opener), what=what, log=log, torch=True)
            stack.callback(base.kill)
            children["eager"] = base
        for parent in (one.parent for one in targets.values()):
            if parent is not None and str(parent.path) not in children:
                child = start(Target(parent, device), options, log)
                stack.callback(child.kill)
                children[str(parent.path)] = child
        collected = speed.collect(children, budget, "eager" if opener else None)
    for index, target in targets.items():
        yield index, _speed(collected, names[index], target.parent)


def _speed(collected: speed.Collected, name: str, parent: Artifact | None) -> Speed | BurnishError:
    """What was timed of one session, against eager's and its parent's."""
    found = collected.speed(name, "eager")
    if parent is None or isinstance(found, BurnishError):
        return found
    beside = collected.speed(name, str(parent.path))
    ratio = {} if isinstance(beside, BurnishError) else {"speedup": beside.speedup, "ci95": beside.ci95}
    against = Parent(name=parent.manifest.name, size_bytes=parent.size_bytes, **ratio)
    return found.model_copy(update={"parent": against})


def _with_speed(row: Row, found: Speed | BurnishError, child: Child, target: Target) -> Row:
    if isinstance(found, BurnishError):
        return _ended(row, "speed", found)
    try:
        full = alone(found, child, target.artifact.manifest, target.device, target.gates.deadline_ms)
    except BurnishError as error:
        return _ended(row, "speed", error)
    beside = gates.parent(full, target.gates)
    results = [*row.gates, gates.speed(full, target.gates), *([beside] if beside else [])]
    results.append(gates.deadline(full, target.gates))
    notes = [*row.notes, *_elsewhere(full, target.device)]
    return _settle(row.model_copy(update={"speed": full, "gates": results, "notes": notes}))


def _elsewhere(found: Speed, device: str) -> list[str]:
    """A note where the eager model was timed on another device than the artifact."""
    if found.speedup is None or (beside := eager_device(device)) == device:
        return []
    return [f"on {device} ({intel_devices()[device]}) the speed-up is over the eager model on {beside}"]


def _blank(target: Target) -> Row:
    made = target.artifact.manifest
    return Row(
        name=made.name,
        format=made.format,
        device=target.device,
        status=Status.PASSED,
        path=target.artifact.path.name,
        size_bytes=target.artifact.size_bytes,
        precision=made.precision,
        notes=[*made.build.get("notes", []), *_foreign(made.burnish), *_other_cpu(made, target.device)],
    )


def _foreign(version: str) -> list[str]:
    """A note where another version of Burnish made the artifact: its gates may have meant something else."""
    own = burnish_version()
    return (
        [] if version == own else [f"made by Burnish {version}, judged by {own}; `burnish convert` makes it anew"]
    )


def _other_cpu(made: Manifest, device: str) -> list[str]:
    """A note where the artifact was lowered for another family of CPUs than the one that it is judged on."""
    lowered, own = made.build.get("cpu"), own_cpu()
    if device != "cpu" or lowered in (None, own):
        return []
    slower = f"right on this {own} one too, but as a rule slower than what `cpu: {own}` makes"
    return [f"lowered for {lowered} CPUs: {slower}"]


def _settle(row: Row) -> Row:
    """The status that the gates so far give, with every failed one in the reason."""
    failed = [f"{result.gate}: {result.detail}" for result in row.gates if result.ok is False]
    if not failed:
        return row.model_copy(update={"status": Status.PASSED, "reason": None})
    return row.model_copy(update={"status": Status.FAILED, "reason": "; ".join(failed)})


def _ended(row: Row, gate: str, error: BurnishError) -> Row:
    result = GateResult(gate=gate, ok=False, detail=str(error))
    update = {"status": Status.ERROR, "reason": f"{gate}: {error}", "gates": [*row.gates, result]}
    return row.model_copy(update=update)
