"""Judge artifacts: load, probe, compare, time; one row per artifact and device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from runtimes.artifact.artifact import Manifest
from runtimes.errors import ArtifactError, BurnishError, Untrusted
from runtimes.machine.devices import eager_device
from runtimes.progress import Tell, watched
from runtimes.results import GateResult, Outcome, Row, Status
from runtimes.session import SessionOptions, unavailable
from runtimes.validator.defaults import BUDGET_SECONDS, FIRST_PROBES
from runtimes.validator.evidence import Target
from runtimes.validator.gates import gates
from runtimes.validator.host import Opener, default_options, start
from runtimes.validator.judge import Answers, collect, judge
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
        answers = collect(child, reference)
        row = _judged(target, row, reference, answers)
        wrong = any(result.outcome is Outcome.FAILS for result in row.gates)
        before = None if wrong else list(answers.first[:FIRST_PROBES])
        return row, Checked(target, child, reference, before)
    except (ArtifactError, Untrusted) as error:
        return end_with_error(row, "loads", error), None
    except BurnishError as error:
        return end_with_error(row, "runs", error), None


def _judged(target: Target, row: Row, reference: Reference, answers: Answers) -> Row:
    """Judge all gates but speed."""
    parity, results = judge(
        target.artifact.manifest, target.gates, reference, answers, target.metric
    )
    results += _size(target)
    notes = [*row.notes, *target.notes, *_noise_note(target.artifact.manifest, reference)]
    return settle(row.model_copy(update={"parity": parity, "gates": results, "notes": notes}))


def _noise_note(manifest: Manifest, reference: Reference) -> list[str]:
    """Return a note if a lossy artifact was judged on noise: real inputs are another thing."""
    if manifest.precision == "fp32" or not reference.synthetic:
        return []
    return ["judged on noise: add data.evaluation to the recipe, real inputs are another thing"]


def _size(target: Target) -> list[GateResult]:
    result = gates.size(target.artifact, target.parent)
    return [result] if result else []


def _built(row: Row, problem: str, target: Target) -> Row:
    """Judge an artifact that cannot run here: it can still be too large."""
    row = settle(row.model_copy(update={"gates": _size(target)}))
    built = {"status": Status.BUILT, "reason": f"cannot run here: {problem}"}
    return row if row.status is Status.FAILED else row.model_copy(update=built)
