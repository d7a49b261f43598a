"""Run trials, one process per subject: a mutant may take its process down, and is `invalid` then."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mutation.mutants import Factory, Mutant
from mutation.subject import Subject
from mutation.trial import Result, Results, Trial

_SECONDS_BETWEEN_LINES = 10.0
_ENDED = "ends its process"


@dataclass(frozen=True)
class Settings:
    """Scope of a run: kinds of defects, mutants per subject, the seed, where results lie."""

    kinds: Sequence[str]
    count: int
    seed: int
    results: Path


def run(subjects: Sequence[Subject], settings: Settings, jobs: int) -> list[Result]:
    """Try mutants of all subjects, `jobs` subjects at a time; return the current results of all.

    Results that an earlier run left stand, if neither the subject nor the validator has changed.
    """
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda subject: _supervise(subject, settings), subjects))
    current = {(subject.name, subject.digest) for subject in subjects}
    results = Results(settings.results).read()
    return [
        result
        for result in results
        if (result.subject, result.digest) in current and result.kind in settings.kinds
    ]


def _supervise(subject: Subject, settings: Settings) -> None:
    """Start a process for the subject, again if a mutant ended it."""
    context = multiprocessing.get_context("spawn")
    while True:
        process = context.Process(target=_work, args=(subject, settings))
        process.start()
        process.join()
        current = _marker(subject, settings)
        if not process.exitcode:
            return
        if not current.exists():
            raise RuntimeError(f"the trial of {subject.name} ended with {process.exitcode}")
        kind, draw, words = current.read_text(encoding="utf-8").split("\n", 2)
        current.unlink()
        reason = f"{_ENDED} ({process.exitcode})"
        Results(settings.results).add(
            Result(
                *(subject.name, kind, int(draw), words, "invalid"),
                lossless=subject.lossless,
                reason=reason,
                digest=subject.digest,
            )
        )


class _AnnouncingFactory(Factory):
    """Writes down which mutant it makes: an engine that serializes one may take the process down.

    Such a mutant is not made again: it has no content.
    """

    def __init__(
        self, subject: Subject, seed: int, marker: Path, fatal: set[tuple[str, int]]
    ) -> None:
        super().__init__(subject, seed)
        self._marker, self._fatal = marker, fatal

    def make(self, kind: str, draw: int) -> Mutant:
        """See `Factory.make`."""
        if (kind, draw) in self._fatal:
            return Mutant(kind, draw, f"{kind} {draw}", None)
        self._marker.write_text(f"{kind}\n{draw}\n(while it was made)", encoding="utf-8")
        return super().make(kind, draw)


def _marker(subject: Subject, settings: Settings) -> Path:
    """Return the file that names the mutant being tried."""
    return settings.results.with_name(f"{subject.name.replace('/', '-')}.current")


def _work(subject: Subject, settings: Settings) -> None:
    os.nice(5)
    results, marker = Results(settings.results), _marker(subject, settings)
    earlier = [
        result
        for result in results.read()
        if (result.subject, result.digest) == (subject.name, subject.digest)
    ]
    done = {(result.kind, result.draw) for result in earlier}
    fatal = {(result.kind, result.draw) for result in earlier if result.reason.startswith(_ENDED)}
    trial = Trial(subject, settings.seed)
    trial.factory = _AnnouncingFactory(subject, settings.seed, marker, fatal)
    said, tally = time.monotonic(), {"caught": 0, "survived": 0, "equal": 0, "invalid": 0}
    for mutant in trial.factory.mutants(settings.kinds, settings.count):
        if (mutant.kind, mutant.draw) in done:
            continue
        marker.write_text(f"{mutant.kind}\n{mutant.draw}\n{mutant.words}", encoding="utf-8")
        result = trial.try_mutant(mutant)
        results.add(result)
        tally[result.outcome] += 1
        if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            _say(subject, tally)
    marker.unlink(missing_ok=True)
    _say(subject, tally)


def _say(subject: Subject, tally: dict[str, int]) -> None:
    words = ", ".join(f"{count} {outcome}" for outcome, count in tally.items())
    print(f"{subject.name}: {words}", flush=True)
