"""Sessions in this process, of models that are bytes; and the validator's verdict on one."""

from __future__ import annotations

from typing import Any

import onnxruntime

from mutation.subjects import Subject
from runtimes.engines.onnx.onnx import OnnxSession
from runtimes.errors import ArtifactError
from runtimes.results import Row
from runtimes.session import Session
from runtimes.validator.host import SessionHost
from runtimes.validator.validate import Target, judge_session


def open_session(content: bytes, subject: Subject) -> Session:
    """Open a model as the subject's engine does, on one thread. Raises ArtifactError."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
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


def judge(session: Session, subject: Subject) -> Row:
    """Return the validator's verdict on a session that claims to be the subject's."""
    return judge_session(Target(subject.artifact, "cpu"), subject.reference, LocalHost(session))
