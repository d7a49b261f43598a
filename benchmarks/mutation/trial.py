"""Try mutants: verdict of the validator, answer of the oracle, one line of JSON each."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mutation.mutants import Factory, Mutant
from mutation.oracle import BEYOND_ROUNDING, Difference, Oracle
from mutation.sessions import failed_gates
from mutation.subject import Subject
from runtimes.errors import ArtifactError, BurnishError
from runtimes.results import GateResult
from runtimes.session import Session
from runtimes.spec import Arrays


@dataclass(frozen=True)
class Result:
    """Outcome of one mutant.

    Attributes:
        subject, kind, draw, words: the mutant.
        outcome: `invalid` (does not load or run), `equal` (the oracle sees no difference),
            `caught` or `survived`.
        gate: the first gate that failed, even if the mutant is equal; "" if none did.
        lossless: whether it is a mutant of a float32 artifact.
        ratio, where: the oracle's difference; a ratio of -1 stands for infinity.
        reason: the verdict's, shortened.
        digest: of everything that the result depends on.
    """

    subject: str
    kind: str
    draw: int
    words: str
    outcome: str
    gate: str = ""
    lossless: bool = True
    ratio: float = 0.0
    where: str = ""
    reason: str = ""
    digest: str = ""
    seconds: float = 0.0


class Results:
    """Results in a file of JSON lines, which an interrupted run is continued from."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Result]:
        """Return the results; a line that was cut off is left out."""
        if not self._path.exists():
            return []
        results = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                results.append(Result(**json.loads(line)))
            except (json.JSONDecodeError, TypeError):
                continue
        return results

    def add(self, result: Result) -> None:
        """Append a result."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")


class Trial:
    """Tries mutants of one subject."""

    def __init__(self, subject: Subject, seed: int) -> None:
        self.subject, self.factory = subject, Factory(subject, seed)
        self._oracle = Oracle(subject, seed)
        self._limit = BEYOND_ROUNDING if subject.lossless else 1.0

    def try_mutant(self, mutant: Mutant) -> Result:
        """Judge one mutant."""
        started = time.perf_counter()
        lossless = self.subject.lossless
        blank = Result(
            *(self.subject.name, mutant.kind, mutant.draw, mutant.words, "invalid"),
            lossless=lossless,
            digest=self.subject.digest,
        )
        try:
            session = self._open(mutant)
        except BurnishError as error:
            return replace(blank, reason=str(error)[:300])
        failed = failed_gates(session, self.subject)
        difference = self._oracle.compare(session)
        outcome = self._outcome(failed, difference)
        return replace(
            blank,
            outcome=outcome,
            gate=failed[0].gate if failed else "",
            ratio=difference.ratio if math.isfinite(difference.ratio) else -1.0,
            where=difference.where,
            reason="; ".join(result.detail for result in failed)[:300],
            seconds=round(time.perf_counter() - started, 3),
        )

    def _outcome(self, failed: list[GateResult], difference: Difference) -> str:
        if not difference.ratio > self._limit:
            return "equal"
        return "caught" if failed else "survived"

    def _open(self, mutant: Mutant) -> Session:
        """Open a mutant. Raises BurnishError if it does not load, or runs at none of the sizes."""
        if mutant.content is None:
            raise ArtifactError("it could not be made")
        session = self.subject.format.open(mutant.content)
        problems = []
        for inputs in _sized_inputs(self.subject):
            try:
                session.run(inputs)
                return session
            except BurnishError as error:
                problems.append(error)
        raise problems[0]


def _sized_inputs(subject: Subject) -> list[Arrays]:
    """Return the first probe of each size."""
    by_size: dict[tuple[int, ...], Arrays] = {}
    for probe in subject.reference.probes:
        by_size.setdefault(tuple(probe.sizes.values()), probe.inputs)
    return list(by_size.values())
