"""Time one artifact, alone or against another, each in a process of its own, started several times."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from runtimes.artifact.artifact import Artifact
from runtimes.process.process import Child
from runtimes.progress import counted
from runtimes.results import Speed
from runtimes.session import SessionOptions, check_device
from runtimes.validator.defaults import BENCH_LAUNCHES
from runtimes.validator.speed import speed
from runtimes.validator.speed.alone import alone
from runtimes.validator.validate import Target, default_options, start


def bench(
    path: Path,
    versus: Path | None,
    device: str | None,
    seconds: float,
    deadline_ms: float | None = None,
    trust: bool = False,
) -> dict[str, Speed]:
    """Latency percentiles per artifact folder; with `versus`, how many times as fast as it `path` is.

    Args:
        path: the artifact.
        versus: the artifact to compare with.
        device: by default each artifact's first.
        seconds: time budget of the latencies.
        deadline_ms: also send single requests at this rate and count those that were late.
        trust: open artifacts that are programs even where this user did not build them here.

    Raises:
        UsageError, Unavailable: an artifact cannot be run here.
        BurnishError: a session ended before it was timed.
    """
    targets = {str(one): _target(one, device) for one in (path, versus) if one is not None}
    base = str(versus) if versus else None
    options = default_options(trust)
    times = counted(range(BENCH_LAUNCHES), "launches")
    launches = [_launch(targets, options, seconds / BENCH_LAUNCHES, base) for _ in times]
    with _sessions(targets, options) as children:
        return {
            name: alone(
                _speed(launches, name, base), children[name], one.artifact.manifest, one.device, deadline_ms
            )
            for name, one in targets.items()
        }


def _target(path: Path, device: str | None) -> Target:
    artifact = Artifact.open(path)
    target = Target(artifact, device or artifact.manifest.devices[0])
    check_device(artifact, target.device)
    return target


@contextlib.contextmanager
def _sessions(targets: Mapping[str, Target], options: SessionOptions) -> Iterator[dict[str, Child]]:
    """A new process for each target; all are ended afterwards."""
    with contextlib.ExitStack() as stack:
        children = {}
        for name, target in targets.items():
            children[name] = start(target, options)
            stack.callback(children[name].kill)
        yield children


def _launch(
    targets: Mapping[str, Target], options: SessionOptions, seconds: float, base: str | None
) -> speed.Collected:
    """The times of new sessions. Raises the error that the first of them ended with."""
    with _sessions(targets, options) as children:
        found = speed.collect(children, seconds, base)
    for error in found.failed.values():
        raise error
    return found


def _speed(launches: Sequence[speed.Collected], name: str, base: str | None) -> Speed:
    theirs = [one.times[base] for one in launches] if base else []
    return speed.summarize([one.times[name] for one in launches], theirs, all(one.usual for one in launches))
