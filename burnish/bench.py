"""Time one artifact, alone or against another, each in a process of its own."""

from __future__ import annotations

import contextlib
from pathlib import Path

from runtimes.artifact import Artifact
from runtimes.errors import BurnishError
from runtimes.results import Speed
from runtimes.session import check_device
from runtimes.validator import speed
from runtimes.validator.validate import Target, default_options, start


def bench(path: Path, versus: Path | None, device: str | None, seconds: float) -> dict[str, Speed]:
    """Latency percentiles per artifact folder; with `versus`, how many times as fast as it `path` is.

    Args:
        path: the artifact.
        versus: the artifact to compare with.
        device: by default each artifact's first.
        seconds: time budget.

    Raises:
        UsageError, Unavailable: an artifact cannot be run here.
        BurnishError: a session ended before it was timed.
    """
    paths = [path] if versus is None else [path, versus]
    with contextlib.ExitStack() as stack:
        children = {}
        for one in paths:
            artifact = Artifact.open(one)
            target = Target(artifact, device or artifact.manifest.devices[0])
            check_device(artifact, target.device)
            children[str(one)] = start(target, default_options())
            stack.callback(children[str(one)].kill)
        found = speed.measure(children, seconds, str(versus) if versus else None)
    results = {}
    for name, result in found.items():
        if isinstance(result, BurnishError):
            raise result
        results[name] = result
    return results
