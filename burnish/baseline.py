"""A committed baseline.json: what a build must not fall behind, and must not silently overtake.

Ratios are compared, never absolute times, so that a baseline holds from one machine of a class to another.
An improvement that nobody recorded fails too (PyTorch's benchmarks/dynamo/check_accuracy.py does the same):
left alone, it would hide the next regression.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from runtimes.errors import UsageError
from runtimes.files.atomic import write_atomically
from runtimes.files.documents import read_json
from runtimes.results import Build, Record, Row, Status

VERSION = 1
# From worst to best: falling in this order is a regression.
_RANK = [Status.ERROR, Status.FAILED, Status.SKIPPED, Status.BUILT, Status.PASSED]
# An interval is of one run only; benchmarks/repeatability.py measures how far runs differ, 5 % is what is asked.
_SPEED_MARGIN = 0.05
# Rounding differs between processors of one class and thread counts by about this factor ...
_NOISE_FACTOR = 2.0
# ... and by this much in dB.
_SQNR_DB = 3.0
_SIZE_MARGIN = 0.01


class BaselineEntry(Record):
    """What is remembered of one artifact on one device."""

    status: Status
    noise: float | None = None
    sqnr_db: float | None = None
    top1_agreement: float | None = None
    samples: int | None = None
    speedup: float | None = None
    ci95: tuple[float, float] | None = None
    size_bytes: int | None = None


class Baseline(Record):
    """Entries by recipe, then by artifact@device, and the class of machine they were measured on."""

    version: int = VERSION
    machine: str
    builds: dict[str, dict[str, BaselineEntry]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """One difference between a build and its baseline."""

    kind: Literal["regression", "improvement"]
    artifact: str
    what: str


def machine_class(machine: dict[str, Any]) -> str:
    """What two machines must share for their speed ratios to be comparable."""
    gpus = ", ".join(machine.get("gpus") or []) or "no GPU"
    isa = ", ".join(machine.get("isa") or []) or "no SIMD"
    return f"{machine.get('cpu')}; {isa}; {machine.get('cores')} cores; {gpus}"


def record(builds: Sequence[Build], path: Path) -> None:
    """Write the baseline of these builds; entries of other recipes in the file stay."""
    machine = machine_class(builds[0].machine)
    kept = _read(path).builds if path.exists() and _read(path).machine == machine else {}
    entries = {_name(build): {_key(row): _entry(row) for row in build.artifacts} for build in builds}
    write_atomically(path, Baseline(machine=machine, builds={**kept, **entries}).model_dump_json(indent=2) + "\n")


def compare(builds: Sequence[Build], path: Path, force: bool = False) -> list[Difference]:
    """Every regression and every unrecorded improvement.

    Raises:
        UsageError: no readable baseline, a recipe that it does not know, or (without `force`) another
            class of machine.
    """
    baseline = _read(path)
    changes: list[Difference] = []
    for build in builds:
        if (here := machine_class(build.machine)) != baseline.machine and not force:
            raise UsageError(
                f"{path} was measured on another class of machine ({baseline.machine}) than this build "
                f"({here}): ratios do not compare. Record one of your own with --update, or use --force."
            )
        if _name(build) not in baseline.builds:
            raise UsageError(f"{path} has no entry for {_name(build)}; record it with --update")
        changes += _changes(build, baseline.builds[_name(build)])
    return changes


def _read(path: Path) -> Baseline:
    try:
        baseline = Baseline.model_validate(read_json(path))
    except OSError as error:
        raise UsageError(f"no baseline at {path}: {error.strerror}; --update records one") from error
    except (ValueError, ValidationError) as error:
        raise UsageError(f"{path} is not a baseline: {error}") from error
    if baseline.version > VERSION:
        raise UsageError(f"{path} was written by a newer Burnish (version {baseline.version}); update Burnish")
    return baseline


def _changes(build: Build, known: dict[str, BaselineEntry]) -> Iterator[Difference]:
    found = {_key(row): _entry(row) for row in build.artifacts}
    for key, was in known.items():
        if key not in found:
            yield Difference("regression", key, "is gone")
            continue
        now = found[key]
        if now.status != was.status:
            better = _RANK.index(now.status) > _RANK.index(was.status)
            yield Difference("improvement" if better else "regression", key, f"status {was.status} -> {now.status}")
            continue
        yield from (Difference(kind, key, what) for kind, what in _numbers(was, now))
    for key in found:
        if key not in known:
            yield Difference("improvement", key, "is new")


def _numbers(was: BaselineEntry, now: BaselineEntry) -> Iterator[tuple[Literal["regression", "improvement"], str]]:
    if was.ci95 and now.ci95:
        text = f"speed-up {was.speedup:.2f}x ({_range(was.ci95)}) -> {now.speedup:.2f}x ({_range(now.ci95)})"
        if now.ci95[1] < was.ci95[0] * (1 - _SPEED_MARGIN):
            yield "regression", text
        elif now.ci95[0] > was.ci95[1] * (1 + _SPEED_MARGIN):
            yield "improvement", text
    if was.noise and now.noise:
        yield from _moved("noise", was.noise, now.noise, was.noise * _NOISE_FACTOR, was.noise / _NOISE_FACTOR)
    if was.noise is None and was.sqnr_db is not None and now.sqnr_db is not None:
        yield from _moved(
            "SQNR in dB", -was.sqnr_db, -now.sqnr_db, -was.sqnr_db + _SQNR_DB, -was.sqnr_db - _SQNR_DB
        )
    if was.top1_agreement is not None and now.top1_agreement is not None:
        one = 1.5 / max(was.samples or 1, 1)  # more than one sample
        lost, kept = 1 - was.top1_agreement, 1 - now.top1_agreement
        yield from _moved("top-1 disagreement", lost, kept, lost + one, lost - one)
    if was.size_bytes and now.size_bytes:
        low, high = was.size_bytes * (1 - _SIZE_MARGIN), was.size_bytes * (1 + _SIZE_MARGIN)
        yield from _moved("size in bytes", was.size_bytes, now.size_bytes, high, low)


def _moved(
    what: str, was: float, now: float, worse_above: float, better_below: float
) -> Iterator[tuple[Literal["regression", "improvement"], str]]:
    text = f"{what} {abs(was):g} -> {abs(now):g}"
    if now > worse_above:
        yield "regression", text
    elif now < better_below:
        yield "improvement", text


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2f}-{interval[1]:.2f}"


def _name(build: Build) -> str:
    return str(build.recipe.get("name") or build.model)


def _key(row: Row) -> str:
    return f"{row.name}@{row.device}"


def _entry(row: Row) -> BaselineEntry:
    lossy = row.precision != "fp32"
    return BaselineEntry(
        status=row.status,
        noise=None if lossy else row.parity.noise,
        sqnr_db=row.parity.sqnr_db,
        top1_agreement=row.parity.top1_agreement,
        samples=row.parity.samples,
        speedup=row.speed.speedup,
        ci95=row.speed.ci95,
        size_bytes=row.size_bytes,
    )
