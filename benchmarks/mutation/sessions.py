"""Sessions in this process, of models that are bytes; and the validator's verdict on one."""

from __future__ import annotations

from typing import Any

import onnxruntime

from mutation.subject import Subject
from runtimes.engines.onnx.onnx import PRECISE_BYTES, OnnxSession
from runtimes.errors import ArtifactError, BurnishError
from runtimes.results import GateResult
from runtimes.session import Session
from runtimes.validator.host import SessionHost
from runtimes.validator.judge import collect, judge


def open_session(content: bytes, subject: Subject) -> Session:
    """Open a model as the subject's engine does, on one thread. Raises ArtifactError."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    settings.add_session_config_entry(PRECISE_BYTES, "1")
    try:
        engine = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ArtifactError(f"ONNX Runtime cannot load it: {error}") from error
    return OnnxSession(engine, subject.artifact)


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
