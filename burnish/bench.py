"""Time one artifact, alone or against another, each in several processes of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from runtimes.artifact.artifact import Artifact, Manifest
from runtimes.errors import BurnishError
from runtimes.process.process import Child, stopwatch
from runtimes.progress import counted
from runtimes.results import Speed
from runtimes.session import SessionOptions, check_device
from runtimes.validator.defaults import (
    AFTERWARDS_SHARE,
    BENCH_HALF_WIDTH,
    BENCH_LAUNCHES,
    REQUEST_SECONDS,
)
from runtimes.validator.evidence import Target
from runtimes.validator.host import default_options, start
from runtimes.validator.speed import speed
from runtimes.validator.speed.alone import alone
from runtimes.validator.speed.own_answers import first_answers, timed_problem
from runtimes.validator.speed.ratio import summarize
from runtimes.validator.speed.watch import Excerpts


class WrongAnswers(BurnishError):
    """A session answers otherwise while it is timed than without haste."""

    exit_code = 1


def bench(
    path: Path,
    versus: Path | None,
    device: str | None,
    seconds: float,
    deadline_ms: float | None = None,
    trust: bool = False,
) -> dict[str, Speed]:
    """Return latency percentiles per artifact folder; with `versus` also the speed-up over it.

    Args:
        path: the artifact.
        versus: the artifact to compare with.
        device: by default each artifact's first.
        seconds: time budget for each artifact, with starts, waiting and throughput.
        deadline_ms: also send single requests at this interval, and count those that were late.
        trust: open artifacts that are programs even if this user did not build them here.

    Raises:
        UsageError, Unavailable: an artifact cannot be run here.
        WrongAnswers: an artifact answers otherwise while it is timed.
        BurnishError: a session ended before it was timed.
    """
    targets = {str(path): _target(path, device)}
    if versus is not None:
        targets[str(versus)] = _target(versus, device)
    base = str(versus) if versus else None
    options, elapsed = default_options(trust), stopwatch()
    budget = seconds * len(targets)
    afterwards = budget * AFTERWARDS_SHARE
    launches: list[speed.Collected] = []
    speeds: dict[str, Speed] = {}
    for number in counted(range(BENCH_LAUNCHES), "launches"):
        # Starting the sessions takes its part of the time that is left.
        left = (budget - afterwards - elapsed()) / (BENCH_LAUNCHES - number)
        with _sessions(targets, options) as children:
            before = {
                name: first_answers(child, targets[name].artifact.manifest)
                for name, child in children.items()
            }
            launches.append(_launch(children, left, base))
            if number + 1 < BENCH_LAUNCHES:
                continue
            for name, target in targets.items():
                latencies, child = _speed(launches, name, base), children[name]
                manifest, share = target.artifact.manifest, afterwards / len(targets)
                speeds[name] = alone(latencies, child, manifest, target.device, deadline_ms, share)
                _check_answers(name, child, manifest, before[name])
    return speeds


def _check_answers(name: str, child: Child, manifest: Manifest, before: list[Excerpts]) -> None:
    """Raise WrongAnswers if a session answered otherwise while it was timed, or does since then."""
    if problem := timed_problem(child, manifest, before):
        raise WrongAnswers(
            f"{name}: {problem}. Its speed is that of wrong answers, and is not reported; "
            "`burnish validate` compares them with the eager model's"
        )


def _target(path: Path, device: str | None) -> Target:
    artifact = Artifact.open(path)
    target = Target(artifact, device or artifact.manifest.devices[0])
    check_device(artifact, target.device)
    return target


@contextlib.contextmanager
def _sessions(targets: Mapping[str, Target], options: SessionOptions) -> Iterator[dict[str, Child]]:
    """Start a new process for each target; all are killed at the end."""
    with contextlib.ExitStack() as stack:
        children = {}
        for name, target in targets.items():
            children[name] = start(target.artifact, target.device, options)
            stack.callback(children[name].kill)
        yield children


def _launch(children: Mapping[str, Child], seconds: float, base: str | None) -> speed.Collected:
    """Return the times of new sessions, in so many seconds from their start.

    Raises the error of the first session that failed.
    """
    elapsed = stopwatch()
    for child in children.values():
        child.call("ready", timeout=REQUEST_SECONDS)
    left = max(0.0, seconds - elapsed())
    measured = len(children) - (base is not None)
    collected = speed.collect(children, left / measured, base, width=BENCH_HALF_WIDTH)
    for error in collected.failed.values():
        raise error
    return collected


def _speed(launches: Sequence[speed.Collected], name: str, base: str | None) -> Speed:
    times, base_times, usual = [], [], True
    for launch in launches:
        times.append(launch.times[name])
        if base:
            base_times.append(launch.times[base])
        usual = usual and launch.usual
    return summarize(times, base_times, usual, BENCH_HALF_WIDTH)
