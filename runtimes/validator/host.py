"""The child's side of a measured session: it opens a session, answers probes, runs bursts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from runtimes.session import Session, SessionOptions, load
from runtimes.spec import Arrays
from runtimes.validator import defaults
from runtimes.validator.probes import synthetic_probes

Opener = Callable[[], Session]
"""Opens a session; picklable, so that another process can call it."""


@dataclass(frozen=True)
class ArtifactOpener:
    """Opens an artifact from its folder."""

    path: Path
    device: str
    options: SessionOptions

    def __call__(self) -> Session:
        """Load the artifact; every file is verified first."""
        return load(self.path, self.device, self.options)


class SessionHost:
    """A session and the inputs it is timed on; lives in a `runtimes.process.Child`."""

    def __init__(self, open_session: Opener) -> None:
        self._session = open_session()
        probes = synthetic_probes(self._session.inputs, self._session.dims, seed=1)
        best = {name: dim.best for name, dim in self._session.dims.items()}
        # Several buffers in turn, so that one input that stays in the cache is not the benchmark.
        self._inputs = cycle([probe.inputs for probe in probes if probe.sizes == best])

    def ready(self) -> bool:
        """Answer once the session is loaded."""
        return True

    def answer(self, inputs: list[Arrays]) -> list[Arrays]:
        """The outputs for each set of inputs, in order."""
        return [self._session.run(arrays) for arrays in inputs]

    def warm_up(self) -> float:
        """Run until burst times stop falling; return the seconds of one run of the best burst."""
        best, patience = float("inf"), defaults.WARM_UP_PATIENCE
        started = time.perf_counter()
        while patience and time.perf_counter() - started < defaults.WARM_UP_SECONDS:
            times = self._timed(defaults.MIN_BURST_RUNS)
            fastest = min(times)
            patience = defaults.WARM_UP_PATIENCE if fastest < best * (1 - defaults.WARM_UP_GAIN) else patience - 1
            best = min(best, fastest)
        return best

    def burst(self, runs: int) -> list[float]:
        """Wake up (not timed), then the seconds of each of `runs` runs."""
        started = time.perf_counter()
        self._timed(1)
        while time.perf_counter() - started < defaults.WAKE_SECONDS:
            self._timed(1)
        return self._timed(runs)

    def _timed(self, runs: int) -> list[float]:
        times = []
        for _ in range(runs):
            inputs = next(self._inputs)
            start = time.perf_counter()
            self._session.run(inputs)
            times.append(time.perf_counter() - start)
        return times
