"""The child's side of a measured session: opens the session, answers probes, runs bursts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from runtimes.artifact.artifact import Artifact
from runtimes.artifact.signature import ANYONE, Trust
from runtimes.errors import BurnishError
from runtimes.machine.machine import peak_memory
from runtimes.results import Deadline
from runtimes.session import Session, SessionOptions, check_device, load
from runtimes.spec import Arrays, best_sizes
from runtimes.validator import defaults
from runtimes.validator.conduct import Watch
from runtimes.validator.inputs.draws import draw_all
from runtimes.validator.probes import batch_dimension, synthetic_samples

Opener = Callable[[], Session]
"""Opens a session; picklable, so that another process can call it."""


@dataclass(frozen=True)
class ArtifactOpener:
    """Opens an artifact from its folder, trusting `trust` whatever the environment names."""

    path: Path
    device: str
    options: SessionOptions
    trust: Trust = ANYONE

    def __call__(self) -> Session:
        """Load the artifact; every file is verified first."""
        return load(self.path, self.device, self.options, self.trust)

    def prepare(self) -> None:
        """Import the engine's library, so that a cold start is the session's and not Python's."""
        check_device(Artifact.open(self.path, self.trust), self.device)


class SessionHost:
    """A session and the inputs it is timed on; lives in a `runtimes.process.process.Child`."""

    def __init__(self, open_session: Opener) -> None:
        if isinstance(open_session, ArtifactOpener):
            open_session.prepare()
        start = time.perf_counter()
        self._session = open_session()
        samples = synthetic_samples(self._session.inputs, self._session.dims, seed=1)
        # Several buffers in turn, so that one input that stays in the cache is not the benchmark.
        self._inputs = cycle([sample.inputs for sample in samples])
        self._loaded = time.perf_counter() - start
        self._cold_start: float | None = None
        self._watch = Watch()

    def ready(self) -> bool:
        """Return True once the session is loaded."""
        return True

    def answer(self, probes: list[tuple[str, Arrays]]) -> list[Arrays]:
        """Return the outputs for each named set of inputs. An error names the probe."""
        answers = []
        for name, arrays in probes:
            try:
                answers.append(self._watch.run(self._run, name, arrays))
            except BurnishError as error:
                raise BurnishError(f"at {name}: {error}") from error
        return answers

    def answer_at_once(self, probes: list[tuple[str, Arrays]]) -> list[Arrays]:
        """Return the outputs for each named set of inputs, from several threads at once."""
        with ThreadPoolExecutor(defaults.CALLING_THREADS) as threads:
            return list(threads.map(self._run, [arrays for _, arrays in probes]))

    def follow(self, probes: list[tuple[str, Arrays]], feedback: dict[str, str]) -> list[Arrays]:
        """Return the outputs of calls in a row, each on the state that the one before returned."""
        answers: list[Arrays] = []
        for name, arrays in probes:
            state = (
                {into: answers[-1][output] for into, output in feedback.items()} if answers else {}
            )
            try:
                answers.append(self._run({**arrays, **state}))
            except BurnishError as error:
                raise BurnishError(f"at {name} of a sequence: {error}") from error
        return answers

    def problems(self) -> list[str]:
        """Return what the session did to arrays that are not its own."""
        return self._watch.problems

    def compute_layers(self) -> dict[str, int] | None:
        """Return counts of computing layers by executed precision, or None; see `Session`."""
        return self._session.compute_layers()

    def _run(self, arrays: Arrays) -> Arrays:
        """Run once; the first answer ends the cold start."""
        start = time.perf_counter()
        answer = self._session.run(arrays)
        if self._cold_start is None:
            self._cold_start = self._loaded + time.perf_counter() - start
        return answer

    def cold_start(self) -> float | None:
        """Return the seconds of loading and the first answer; None before that answer."""
        return self._cold_start

    def peak_memory(self) -> int | None:
        """Return the peak resident memory of this process in bytes."""
        return peak_memory()

    def warm_up(self) -> float:
        """Run until burst times stop falling; return the seconds of one run of the best burst."""
        best, patience = float("inf"), defaults.WARM_UP_PATIENCE
        started = time.perf_counter()
        while patience and time.perf_counter() - started < defaults.WARM_UP_SECONDS:
            times = self._timed(defaults.MIN_BURST_RUNS)
            fastest = min(times)
            gained = fastest < best * (1 - defaults.WARM_UP_GAIN)
            patience = defaults.WARM_UP_PATIENCE if gained else patience - 1
            best = min(best, fastest)
        return best

    def burst(self, runs: int) -> list[float]:
        """Wake up (not timed), then return the seconds of each of `runs` runs."""
        started = time.perf_counter()
        self._timed(1)
        while time.perf_counter() - started < defaults.WAKE_SECONDS:
            self._timed(1)
        return self._timed(runs)

    def throughput(self) -> dict[int, float]:
        """Return samples per second by batch size: 1, 2, 4, ... until the gain is too small.

        Empty without a dynamic batch.
        """
        batch, dims = batch_dimension(self._session.inputs), self._session.dims
        rates: dict[int, float] = {}
        if batch is None:
            return rates
        size = dims[batch].min
        while size <= dims[batch].max:
            rates[size] = size / self._seconds_at({**best_sizes(dims), batch: size})
            if len(rates) > 1 and rates[size] < rates[size // 2] * (1 + defaults.SWEEP_GAIN):
                break
            size *= 2
        return rates

    def _seconds_at(self, sizes: dict[str, int]) -> float:
        """Return the median seconds of one run at these sizes."""
        rng = np.random.default_rng(2)
        inputs = draw_all(self._session.inputs, sizes, rng)
        self._session.run(inputs)  # engines prepare for each new shape
        times: list[float] = []
        while sum(times) < defaults.SWEEP_SECONDS or len(times) < defaults.MIN_BURST_RUNS:
            start = time.perf_counter()
            self._session.run(inputs)
            times.append(time.perf_counter() - start)
        return float(np.median(times))

    def meet(self, deadline: float) -> Deadline:
        """Answer one request every `deadline` seconds and count those that took longer."""
        count = max(1, min(defaults.DEADLINE_REQUESTS, int(defaults.DEADLINE_SECONDS / deadline)))
        times, due = [], time.perf_counter()
        for _ in range(count):
            time.sleep(max(0.0, due - time.perf_counter()))
            # A delay is not made up for.
            due = max(due, time.perf_counter() - deadline) + deadline
            times += self._timed(1)
        return _deadline(times, deadline)

    def _timed(self, runs: int) -> list[float]:
        times = []
        for _ in range(runs):
            inputs = next(self._inputs)
            start = time.perf_counter()
            self._run(inputs)
            times.append(time.perf_counter() - start)
        return times


def _deadline(times: Sequence[float], deadline: float) -> Deadline:
    missed = sum(seconds > deadline for seconds in times)
    return Deadline(
        deadline_ms=deadline * 1e3,
        requests=len(times),
        p99_ms=float(np.percentile(times, 99) * 1e3),
        misses_per_10000=1e4 * missed / len(times),
    )
