"""Time one artifact, alone or against another, each in a process of its own."""

from __future__ import annotations

import contextlib
from pathlib import Path

from runtimes.artifact import Artifact
from runtimes.errors import BurnishError
from runtimes.process import Child
from runtimes.results import Speed
from runtimes.session import check_device
from runtimes.validator import speed
from runtimes.validator.alone import alone
from runtimes.validator.validate import Target, default_options, start


def bench(
    path: Path, versus: Path | None, device: str | None, seconds: float, deadline_ms: float | None = None
) -> dict[str, Speed]:
    """Latency percentiles per artifact folder; with `versus`, how many times as fast as it `path` is.

    Args:
        path: the artifact.
        versus: the artifact to compare with.
        device: by default each artifact's first.
        seconds: time budget of the latencies.
        deadline_ms: also send single requests at this rate and count those that were late.

    Raises:
        UsageError, Unavailable: an artifact cannot be run here.
        BurnishError: a session ended before it was timed.
    """
    paths = [path] if versus is None else [path, versus]
    children: dict[str, Child] = {}
    targets: dict[str, Target] = {}
    with contextlib.ExitStack() as stack:
        for one in paths:
            artifact = Artifact.open(one)
            target = Target(artifact, device or artifact.manifest.devices[0])
            check_device(artifact, target.device)
            targets[str(one)], children[str(one)] = target, start(target, default_options())
            stack.callback(children[str(one)].kill)
        found = speed.measure(children, seconds, str(versus) if versus else None)
        results = {}
        for name, result in found.items():
            if isinstance(result, BurnishError):
                raise result
            target = targets[name]
            results[name] = alone(result, children[name], target.artifact.manifest, target.device, deadline_ms)
    return results
