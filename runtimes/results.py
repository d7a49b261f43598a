"""What a build found out: the contract of build.json, and the exit code computed from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtimes.errors import UsageError
from runtimes.registry import nearest


class Status(StrEnum):
    """The five words for the outcome of one artifact on one device."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    BUILT = "built"
    SKIPPED = "skipped"


class Record(BaseModel):
    """A part of build.json. Readers accept keys they do not know, so that old readers read new files."""

    model_config = ConfigDict(extra="ignore")


class Parity(Record):
    """How far an artifact's outputs are from the truth; the worst output of the worst probe.

    noise: rmse(artifact, truth) / rmse(eager, truth), no unit; sqnr_db: signal to error ratio in dB;
    max_abs: largest absolute error, in the output's unit; top1_agreement: share of samples, 0..1,
    whose largest output is the same as eager's.
    """

    noise: float | None = None
    sqnr_db: float | None = None
    max_abs: float | None = None
    top1_agreement: float | None = None
    samples: int | None = None
    where: str | None = None


class Speed(Record):
    """Latency in milliseconds, and the ratio to eager with its 95 % interval (above 1: faster)."""

    eager_ms: float | None = None
    median_ms: float | None = None
    speedup: float | None = None
    ci95: tuple[float, float] | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    rounds: int | None = None
    stable: bool | None = None


class GateResult(Record):
    """One gate: its name, whether it holds (None: it does not apply here), and what was found."""

    gate: str
    ok: bool | None
    detail: str


class Row(Record):
    """The verdict on one artifact on one device."""

    name: str
    format: str
    device: str
    status: Status
    reason: str | None = None
    path: str | None = None
    size_bytes: int | None = None
    precision: str | None = None
    parity: Parity = Field(default_factory=Parity)
    speed: Speed = Field(default_factory=Speed)
    gates: list[GateResult] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


class Build(Record):
    """Everything that one `burnish convert` found out. build.json is this, and nothing else is the truth."""

    recipe: dict[str, Any]
    model: str
    weights: dict[str, Any]
    machine: dict[str, Any]
    artifacts: list[Row]
    notes: list[str] = Field(default_factory=list)
    seconds: dict[str, float] = Field(default_factory=dict)
    burnish: str | None = None
    created: str | None = None

    def write(self, path: Path) -> None:
        """Write build.json whole or not at all."""
        write_atomically(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Build:
        """Read build.json from a file or the folder that holds it."""
        path = path / "build.json" if path.is_dir() else path
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise UsageError(
                f"no build at {path}: {error.strerror}. `burnish convert RECIPE` makes one."
            ) from error
        except (ValueError, ValidationError) as error:
            raise UsageError(f"{path} is not a build.json that this Burnish can read: {error}") from error


def write_atomically(path: Path, text: str) -> None:
    """Write `text` beside `path`, flush it to the disk, then rename it into place."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def check_required(require: Iterable[str], names: Iterable[str]) -> None:
    """Raise UsageError for a required name, other than `all`, that no artifact has."""
    names = sorted(set(names))
    for name in require:
        if name != "all" and name not in names:
            raise UsageError(f"--require {name}: no such artifact{nearest(name, names)}")


def unmet(rows: Iterable[Row], require: Iterable[str] = ()) -> list[str]:
    """Names of required artifacts (or of all, for `all`) that have a row which did not pass.

    Raises UsageError for a required name that no artifact has.
    """
    rows, require = list(rows), list(require)
    names = {row.name for row in rows}
    check_required(require, names)
    wanted = names if "all" in require else set(require)
    return sorted({row.name for row in rows if row.name in wanted and row.status is not Status.PASSED})


def exit_code(rows: Iterable[Row], require: Iterable[str] = ()) -> int:
    """0 nothing failed; 1 a gate failed or a required artifact is not `passed`; 3 a step ended in error."""
    rows = list(rows)
    if any(row.status is Status.ERROR for row in rows):
        return 3
    return 1 if unmet(rows, require) or any(row.status is Status.FAILED for row in rows) else 0
