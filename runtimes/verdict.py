"""The words of a verdict, and the result of one of its gates."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Status(StrEnum):
    """The five words for the outcome of one artifact on one device."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    BUILT = "built"
    SKIPPED = "skipped"


class Outcome(StrEnum):
    """The answers of a gate."""

    HOLDS = "holds"
    FAILS = "fails"
    UNDECIDED = "undecided"
    NOT_JUDGED = "not judged"


class Record(BaseModel):
    """A part of build.json. Unknown keys are accepted, so that old readers read new files."""

    model_config = ConfigDict(extra="ignore")


class GateResult(Record):
    """Result of one gate.

    Attributes:
        gate: its name.
        ok: whether it holds; None if it is undecided or not applicable.
        detail: the measured value and its limit.
        remedy: what would decide a gate that is undecided; None for all others.
        required: whether the recipe asks for it. An undecided default fails nothing.
    """

    gate: str
    ok: bool | None
    detail: str
    remedy: str | None = None
    required: bool = True

    @property
    def outcome(self) -> Outcome:
        """The gate's answer."""
        if self.ok is None:
            return Outcome.NOT_JUDGED if self.remedy is None else Outcome.UNDECIDED
        return Outcome.HOLDS if self.ok else Outcome.FAILS
