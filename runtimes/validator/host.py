"""A measured session in a process of its own: answers probes, runs bursts, watches answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from runtimes.artifact.artifact import Artifact
from runtimes.artifact.signature import ANYONE, Trust
from runtimes.errors import BurnishError
from runtimes.machine.machine import cores, peak_memory
from runtimes.process.process import Child, stopwatch
from runtimes.results import Deadline
from runtimes.session import Session, SessionOptions, check_device, load, runtime_of
from runtimes.spec import Arrays, best_sizes
from runtimes.validator import defaults
from runtimes.validator.conduct import Conduct, HandledAnswer, as_callers_do
from runtimes.validator.gates.speed import decide_deadline
from runtimes.validator.probes import batch_dimension
from runtimes.validator.speed.stream import InputStream
from runtimes.validator.speed.watch import Excerpts, Ticket, Watch, WatchedAnswer, excerpt

Sizes = tuple[tuple[str, int], ...]
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
    """A session that is timed and watched; lives in a `runtimes.process.process.Child`."""

    def __init__(self, open_session: Opener) -> None:
        if isinstance(open_session, ArtifactOpener):
            open_session.prepare()
        start = time.perf_counter()
        self._session = open_session()
        self._loaded = time.perf_counter() - start
        self._cold_start: float | None = None
        self._conduct = Conduct()
        self._samples: list[Arrays] = []
        self._streams: dict[Sizes, InputStream] = {}
        self._watch, self._calls = Watch(), 0

    def use_samples(self, samples: list[Arrays]) -> None:
        """Time the session on changed copies of real inputs, at the best sizes, and not on noise."""
        self._samples = samples
        self._streams.clear()

    def ready(self) -> bool:
        """Return True once the session is loaded."""
        return True

    def answer(self, probes: list[tuple[str, Arrays]]) -> list[Arrays]:
        """Return the outputs for each named set of inputs. An error names the probe."""
        answers = []
        for name, arrays in probes:
            try:
                answers.append(self._conduct.run(self._run, name, arrays))
            except BurnishError as error:
                raise BurnishError(f"at {name}: {error}") from error
        return answers

    def answer_at_once(self, probes: list[tuple[str, Arrays]]) -> list[Arrays]:
        """Return the outputs for each named set of inputs, from several threads at once."""
        with ThreadPoolExecutor(defaults.CALLING_THREADS) as threads:
            return list(threads.map(self._run, [arrays for _, arrays in probes]))

    def answer_handled(self, inputs: list[Arrays]) -> list[HandledAnswer]:
        """Return answers to inputs that are views, reused, or whose answers were written to."""
        return list(as_callers_do(self._run, inputs))

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
        return self._conduct.problems

    def compute_layers(self) -> dict[str, int] | None:
        """Return counts of computing layers by executed precision, or None; see `Session`."""
        return self._session.compute_layers()

    def _run(self, arrays: Arrays) -> Arrays:
        """Run once; the first answer ends the cold start."""
        start = time.perf_counter()
        answer = self._session.answer(arrays)  # a gate names what is wrong
        if self._cold_start is None:
            self._cold_start = self._loaded + time.perf_counter() - start
        return answer

    def cold_start(self) -> float | None:
        """Return the seconds of loading and the first answer; None before that answer."""
        return self._cold_start

    def peak_memory(self) -> int | None:
        """Return the peak resident memory of this process in bytes."""
        return peak_memory()

    def warm_up(self, seconds: float = defaults.WARM_UP_SECONDS) -> float:
        """Run until burst times stop falling, or for so long; return the seconds of the best run."""
        best, patience = float("inf"), defaults.WARM_UP_PATIENCE
        started = time.perf_counter()
        while patience and (best == float("inf") or time.perf_counter() - started < seconds):
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
        return self._timed(runs, watched=True)

    def throughput(self, seconds: float = math.inf) -> dict[int, float]:
        """Return samples per second by batch size: 1, 2, 4, ... until the gain is too small.

        Empty without a dynamic batch. `seconds`: no further size is tried that would take longer.
        """
        batch, dims = batch_dimension(self._session.inputs), self._session.dims
        rates: dict[int, float] = {}
        if batch is None:
            return rates
        elapsed, size = stopwatch(), dims[batch].min
        while size <= dims[batch].max:
            before = elapsed()
            rates[size] = size / self._seconds_at({**best_sizes(dims), batch: size}, seconds)
            if len(rates) > 1 and rates[size] < rates[size // 2] * (1 + defaults.SWEEP_GAIN):
                break
            if elapsed() + 2 * (elapsed() - before) > seconds:
                break
            size *= 2
        return rates

    def _seconds_at(self, sizes: Mapping[str, int], seconds: float) -> float:
        """Return the median seconds of one run at these sizes."""
        elapsed = stopwatch()
        self._call(sizes)  # engines prepare for each new shape
        times: list[float] = []
        while sum(times) < defaults.SWEEP_SECONDS or len(times) < defaults.MIN_BURST_RUNS:
            duration, ticket, answer = self._call(sizes)
            times.append(duration)
            if elapsed() > seconds:
                break
        self._watch.look(ticket, answer)
        return float(np.median(times))

    def meet(self, deadline: float, seconds: float = 0.0) -> Deadline:
        """Answer one request every `deadline` seconds and count those that took longer.

        Further requests follow until it is decided whether the deadline is met, or for `seconds`, if
        those are more than usual.
        """
        fewest = min(defaults.DEADLINE_REQUESTS, int(defaults.DEADLINE_SECONDS / deadline))
        most = int(max(defaults.UNDECIDED_DEADLINE_SECONDS, seconds) / deadline)
        times = self._requests(max(1, fewest), deadline)
        while len(times) < most and decide_deadline(_deadline(times, deadline)) is None:
            more = min(max(1, len(times) // 4), most - len(times))
            times += self._requests(more, deadline)
        return _deadline(times, deadline)

    def _requests(self, count: int, interval: float) -> list[float]:
        """Return the seconds of so many requests, sent at an interval in seconds."""
        times: list[float] = []
        due = time.perf_counter()
        for _ in range(count):
            time.sleep(max(0.0, due - time.perf_counter()))
            # A delay is not made up for.
            due = max(due, time.perf_counter() - interval) + interval
            times += self._timed(1, watched=True)
        return times

    def watched_answers(self) -> Sequence[WatchedAnswer]:
        """Return answers that were given in the timed calls, and some given in haste after them."""
        for _ in range(defaults.ANSWERS_AFTER):
            _, ticket, answer = self._call()
            self._watch.look(ticket, answer)
        self._call()  # the last one may be overwritten too
        return self._watch.answers()

    def answer_again(
        self, tickets: Sequence[Ticket], pause: float, seconds: float
    ) -> list[Excerpts]:
        """Answer timed inputs once more, each after a pause, as many as the time allows."""
        answers: list[Excerpts] = []
        elapsed = stopwatch()
        for ticket in tickets:
            if len(answers) >= defaults.FEWEST_ANSWERS and elapsed() > seconds:
                break
            time.sleep(pause)
            inputs = self._stream(ticket.sizes).make(ticket.number)
            answers.append(excerpt(self._run(inputs), ticket))
        return answers

    def _stream(self, sizes: Sizes) -> InputStream:
        """Return the inputs of these sizes."""
        if sizes not in self._streams:
            session = self._session
            best = tuple(best_sizes(session.dims).items())
            samples = self._samples if sizes == best else []
            self._streams[sizes] = InputStream(session.inputs, dict(sizes), samples)
        return self._streams[sizes]

    def _call(self, sizes: Mapping[str, int] | None = None) -> tuple[float, Ticket, Arrays]:
        """Run once on new inputs; return the seconds, the ticket of the inputs, and the answer."""
        sizes = best_sizes(self._session.dims) if sizes is None else sizes
        ticket = Ticket(self._calls, tuple(sizes.items()))
        self._calls += 1
        inputs = self._stream(ticket.sizes).make(ticket.number)
        start = time.perf_counter()
        answer = self._run(inputs)
        seconds = time.perf_counter() - start
        self._watch.settle(ticket.number)
        return seconds, ticket, answer

    def _timed(self, runs: int, watched: bool = False) -> list[float]:
        """Return the seconds of each run. Inputs are made before the runs, some at a time."""
        times: list[float] = []
        sizes = tuple(best_sizes(self._session.dims).items())
        stream = self._stream(sizes)
        fitting = max(defaults.MIN_BURST_RUNS, defaults.INPUT_BYTES // max(1, stream.bytes))
        while len(times) < runs:
            numbers = range(self._calls, self._calls + min(fitting, runs - len(times)))
            batch = [stream.make(number) for number in numbers]
            chosen, slot = self._watch.choose(len(batch)) if watched else (None, None)
            for index, inputs in enumerate(batch):
                start = time.perf_counter()
                answer = self._run(inputs)
                times.append(time.perf_counter() - start)
                if index == chosen:
                    self._watch.look(Ticket(numbers[index], sizes), answer, slot)
            self._calls += len(batch)
            self._watch.settle(numbers[-1])
        return times


def default_options(trust: bool = False) -> SessionOptions:
    """Return the options of every session: a thread for each core this process may use."""
    return SessionOptions(threads=len(cores()), trust=trust)


def start(
    artifact: Artifact, device: str, options: SessionOptions, log: Path | None = None
) -> Child:
    """Start the process of one artifact's session."""
    opener = ArtifactOpener(artifact.path, device, options, artifact.trust)
    return Child(
        partial(SessionHost, opener),
        what=f"the {artifact.manifest.format} session of {artifact.path.name} on {device}",
        log=log,
        torch=runtime_of(artifact).needs_torch,
    )


def _deadline(times: Sequence[float], deadline: float) -> Deadline:
    missed = sum(seconds > deadline for seconds in times)
    return Deadline(
        deadline_ms=deadline * 1e3,
        requests=len(times),
        p99_ms=float(np.percentile(times, 99) * 1e3),
        misses_per_10000=1e4 * missed / len(times),
        slowest_ms=max(times) * 1e3,
    )
