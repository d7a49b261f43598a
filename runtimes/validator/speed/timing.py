"""Time the artifacts of one device beside each other, and judge what they answered meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runtimes.errors import BurnishError
from runtimes.machine.devices import eager_device
from runtimes.machine.intel import intel_devices
from runtimes.process.process import Child
from runtimes.results import GateResult, Parent, Row, Speed
from runtimes.session import SessionOptions
from runtimes.spec import Arrays, best_sizes
from runtimes.validator.defaults import (
    AFTERWARDS_SHARE,
    AGAIN_PAUSE,
    AGAIN_SECONDS,
    REQUEST_SECONDS,
    TIMED_SAMPLES,
)
from runtimes.validator.evidence import Target
from runtimes.validator.gates import speed as speed_gates
from runtimes.validator.gates.answers import TimedEvidence, answers
from runtimes.validator.host import Opener, SessionHost, start
from runtimes.validator.reference import Reference
from runtimes.validator.rows import end_with_error, settle, undecided_notes
from runtimes.validator.speed.alone import alone
from runtimes.validator.speed.ratio import Earlier, fastest_runs
from runtimes.validator.speed.speed import Collected, Comparison, collect


@dataclass(frozen=True)
class Checked:
    """A session whose numbers have been judged.

    Attributes:
        target, child: the artifact, and the process that holds its session.
        reference: that it was judged by.
        answers: to the first probes; None if they are wrong, so that later ones prove nothing.
    """

    target: Target
    child: Child
    reference: Reference
    answers: list[Arrays] | None


@dataclass(frozen=True)
class Measured:
    """The speed of one session, and the gate on its answers meanwhile; or the error that ended it."""

    speed: Speed | BurnishError
    answers: GateResult | None = None


@dataclass(frozen=True)
class Timing:
    """Times sessions on one device, in turns with eager and with their parents.

    `budget`: seconds for each session.
    """

    device: str
    sessions: Mapping[int, Checked]
    budget: float
    options: SessionOptions
    log: Path | None

    def measure(self, opener: Opener | None) -> Iterator[tuple[int, Measured]]:
        """Yield each session's measurement; `opener` opens eager, if it is there."""
        with contextlib.ExitStack() as stack:
            children = self._children(opener, stack)
            eager = children.get("eager")
            self._use_samples(children)
            seconds = self.budget * (1 - AFTERWARDS_SHARE)
            collected = collect(children, seconds, comparisons=self._comparisons(eager is not None))
            for index, checked in self.sessions.items():
                yield index, self._completed(checked, collected, eager)

    def _children(self, opener: Opener | None, stack: contextlib.ExitStack) -> dict[str, Child]:
        """Return all processes by name; those of eager and of parents end with `stack`."""
        children = {_name(checked.target): checked.child for checked in self.sessions.values()}
        if opener is not None:
            what = f"the eager model on {eager_device(self.device)}"
            children["eager"] = Child(
                partial(SessionHost, opener), what=what, log=self.log, torch=True
            )
            stack.callback(children["eager"].kill)
        for checked in self.sessions.values():
            parent = checked.target.parent
            if parent is not None and str(parent.path) not in children:
                child = start(parent, self.device, self.options, self.log)
                stack.callback(child.kill)
                children[str(parent.path)] = child
        return children

    def _use_samples(self, children: Mapping[str, Child]) -> None:
        """Have all sessions timed on the recipe's samples, if it has any."""
        checked = next(iter(self.sessions.values()))
        best = best_sizes(checked.target.artifact.manifest.dims)
        samples = [
            probe.inputs
            for probe in checked.reference.probes
            if probe.kind == "data" and probe.sizes == best
        ]
        if not samples:
            return
        for child in children.values():
            # A session that has ended is reported when it is timed.
            with contextlib.suppress(BurnishError):
                child.call("use_samples", samples[:TIMED_SAMPLES], timeout=REQUEST_SECONDS)

    def _comparisons(self, with_eager: bool) -> dict[str, list[Comparison]]:
        """Return what each session is compared with, and the ratios that its gates require."""
        comparisons: dict[str, list[Comparison]] = {}
        for checked in self.sessions.values():
            target = checked.target
            gates, beside = target.gates, []
            if with_eager:
                beside.append(Comparison("eager", gates.speedup, _earlier(target, "eager")))
            if target.parent is not None:
                before = _earlier(target, "parent")
                parent = str(target.parent.path)
                beside.append(Comparison(parent, gates.parent_speedup, before))
            comparisons[_name(target)] = beside
        return comparisons

    def _completed(self, checked: Checked, collected: Collected, eager: Child | None) -> Measured:
        """Return the speed with what needs no other session, and the gate on the answers."""
        target, child = checked.target, checked.child
        speed = _with_parent(collected, target)
        if isinstance(speed, BurnishError):
            return Measured(speed)
        manifest, deadline_ms = target.artifact.manifest, target.gates.deadline_ms
        seconds = self.budget * AFTERWARDS_SHARE
        try:
            speed = alone(speed, child, manifest, self.device, deadline_ms, seconds, self.budget)
            return Measured(speed, _answers_gate(checked, eager))
        except BurnishError as error:
            return Measured(error)


def _name(target: Target) -> str:
    return str(target.artifact.path)


def _earlier(target: Target, base: str) -> Earlier:
    """Return the earlier measurements of a target beside `eager` or its `parent`."""
    return [
        (bursts["own"], bursts[base])
        for bursts in target.earlier
        if bursts.get("own") and bursts.get(base)
    ]


def _with_parent(collected: Collected, target: Target) -> Speed | BurnishError:
    """Return the speed of one session, with the ratios to eager and to its parent."""
    name, parent = _name(target), target.parent
    measured = collected.speed(name, "eager", _earlier(target, "eager"))
    if isinstance(measured, BurnishError):
        return measured
    sessions = {"own": name, "eager": "eager"}
    update: dict[str, Any] = {}
    if parent is not None:
        sessions["parent"] = str(parent.path)
        comparison = Parent(name=parent.manifest.name, size_bytes=parent.size_bytes)
        to_parent = collected.speed(name, str(parent.path), _earlier(target, "parent"))
        if isinstance(to_parent, Speed):
            ratio = {"speedup": to_parent.speedup, "ci95": to_parent.ci95}
            comparison = comparison.model_copy(update=ratio)
        update["parent"] = comparison
    update["bursts"] = {
        kind: fastest_runs(collected.times[session]).tolist()
        for kind, session in sessions.items()
        if session in collected.times
    }
    return measured.model_copy(update=update)


def _answers_gate(checked: Checked, eager: Child | None) -> GateResult:
    """Compare the answers that were watched with those to the same inputs given slowly, and eager's."""
    if checked.answers is None:
        detail = "not judged: answers are wrong when not timed, too"
        return GateResult(gate="answers", ok=None, detail=detail)
    child, manifest, reference = checked.child, checked.target.artifact.manifest, checked.reference
    timed = child.call("watched_answers", timeout=REQUEST_SECONDS)
    tickets = [answer.ticket for answer in timed]
    arguments = tickets, AGAIN_PAUSE, AGAIN_SECONDS
    slow = child.call("answer_again", *arguments, timeout=REQUEST_SECONDS)
    expected = None
    # Passes that train or prune change the function: eager is the model before them.
    if eager is not None and reference.original is None:
        expected = eager.call("answer_again", tickets, 0.0, AGAIN_SECONDS, timeout=REQUEST_SECONDS)
    probes = [(probe.name, probe.inputs) for probe in reference.probes[: len(checked.answers)]]
    after = child.call("answer", probes, timeout=REQUEST_SECONDS)
    return answers(
        TimedEvidence(
            reference=reference,
            precision=manifest.precision,
            gates=checked.target.gates,
            timed=timed,
            slow=slow,
            eager=expected,
            before=checked.answers,
            after=after,
        )
    )


def with_speed(row: Row, measured: Measured, target: Target) -> Row:
    """Return the row with its speed, judged by the gates on it."""
    speed = measured.speed
    if isinstance(speed, BurnishError):
        return end_with_error(row, "speed", speed)
    results = [speed_gates.speed(speed, target.gates)]
    if to_parent := speed_gates.parent(speed, target.gates):
        results.append(to_parent)
    results.append(speed_gates.deadline(speed, target.gates))
    if measured.answers:
        results.append(measured.answers)
    notes = [*row.notes, *_other_device_note(speed, target.device), *undecided_notes(results)]
    if speed.launches > 1:
        notes.append(
            f"its speed-up pools this measurement with {speed.launches - 1} of earlier builds, which "
            "left a gate undecided"
        )
    update = {"speed": speed, "gates": [*row.gates, *results], "notes": notes}
    return settle(row.model_copy(update=update))


def _other_device_note(measured: Speed, device: str) -> list[str]:
    """Return a note if the eager model was timed on another device than the artifact."""
    timed_on = eager_device(device)
    if measured.speedup is None or timed_on == device:
        return []
    name = intel_devices()[device]
    return [f"on {device} ({name}) the speed-up is over the eager model on {timed_on}"]
