"""The validator's verdict on a session in this process."""

from __future__ import annotations

from typing import Any

from mutation.subject import Subject
from runtimes.errors import BurnishError
from runtimes.results import GateResult
from runtimes.session import Session
from runtimes.validator.host import SessionHost
from runtimes.validator.judge import collect, judge


class LocalHost:
    """A `SessionHost` in this process."""

    def __init__(self, session: Session) -> None:
        self._host = SessionHost(lambda: session)

    def call(self, method: str, *arguments: Any, timeout: float | None = None) -> Any:
        """Call a method of the host; there is no time limit."""
        return getattr(self._host, method)(*arguments)


def failed_gates(session: Session, subject: Subject) -> list[GateResult]:
    """Return the gates before speed that a session fails which claims to be the subject's."""
    manifest, reference = subject.artifact.manifest, subject.reference
    try:
        answers = collect(LocalHost(session), reference)  # type: ignore[arg-type]
    except BurnishError as error:
        return [GateResult(gate="runs", ok=False, detail=str(error))]
    _, results = judge(manifest, manifest.gates, reference, answers)
    return [result for result in results if result.ok is False]
