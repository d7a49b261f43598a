"""A committed baseline.json: a build must not be worse, and must not become better unrecorded.

Ratios are compared, never absolute times, so that a baseline holds for all machines of a class. An
unrecorded improvement fails too, as in PyTorch's benchmarks/dynamo/check_accuracy.py: it would hide
the next regression. An undecided measurement is neither: it is not recorded, nor compared.
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
# An interval is of one run only: benchmarks/repeatability.md measures how far runs differ.
_SPEED_MARGIN = 0.05
# Rounding differs between processors of one class and thread counts by about this factor ...
_NOISE_FACTOR = 2.0
# ... and by this much in dB.
_SQNR_DB = 3.0
_SIZE_MARGIN = 0.01
_AGREEMENT_SAMPLES = 1.5  # more than one sample

Kind = Literal["regression", "improvement"]


class BaselineEntry(Record):
    """Record of one artifact on one device."""

    status: Status
    noise: float | None = None
    sqnr_db: float | None = None
    top1_agreement: float | None = None
    samples: int | None = None
    speedup: float | None = None
    ci95: tuple[float, float] | None = None
    size_bytes: int | None = None


class Baseline(Record):
    """Entries by recipe, then by artifact@device, and the class of machine they hold for."""

    version: int = VERSION
    machine: str
    builds: dict[str, dict[str, BaselineEntry]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """One difference between a build and its baseline."""

    kind: Kind
    artifact: str
    description: str


def machine_class(machine: dict[str, Any]) -> str:
    """Return what two machines must have in common for their speed ratios to be comparable."""
    gpus = ", ".join(machine.get("gpus") or []) or "no GPU"
    isa = ", ".join(machine.get("isa") or []) or "no SIMD"
    return f"{machine.get('cpu')}; {isa}; {machine.get('cores')} cores; {gpus}"


def record(builds: Sequence[Build], path: Path) -> None:
    """Write the baseline of these builds; entries of other recipes in the file stay."""
    machine = machine_class(builds[0].machine)
    entries: dict[str, dict[str, BaselineEntry]] = {}
    if path.exists():
        baseline = _read(path)
        if baseline.machine == machine:
            entries |= baseline.builds
    for build in builds:
        name = _name(build)
        entries[name] = _recorded(build, entries.get(name, {}))
    text = Baseline(machine=machine, builds=entries).model_dump_json(indent=2)
    write_atomically(path, text + "\n")


def _recorded(build: Build, before: dict[str, BaselineEntry]) -> dict[str, BaselineEntry]:
    """Return the entries of a build; an artifact that is unproven keeps its earlier one."""
    entries = {}
    for row in build.artifacts:
        key = _key(row)
        if not row.unproven:
            entries[key] = _entry(row)
        elif key in before:
            entries[key] = before[key]
    return entries


def compare(builds: Sequence[Build], path: Path, force: bool = False) -> list[Difference]:
    """Return every regression and every unrecorded improvement.

    Raises:
        UsageError: there is no readable baseline, it does not have a recipe, or (without `force`)
            it is of another class of machine.
    """
    baseline = _read(path)
    differences: list[Difference] = []
    for build in builds:
        machine = machine_class(build.machine)
        if machine != baseline.machine and not force:
            raise UsageError(
                f"{path} was measured on another class of machine ({baseline.machine}) than this "
                f"build ({machine}), so their ratios are not comparable: record a baseline for "
                "this machine with --update, or compare anyway with --force"
            )
        if _name(build) not in baseline.builds:
            raise UsageError(f"{path} has no entry for {_name(build)}; record it with --update")
        differences += _differences(build, baseline.builds[_name(build)])
    return differences


def _read(path: Path) -> Baseline:
    try:
        baseline = Baseline.model_validate(read_json(path))
    except OSError as error:
        raise UsageError(
            f"no baseline at {path}: {error.strerror}; --update records one"
        ) from error
    except (ValueError, ValidationError) as error:
        raise UsageError(f"{path} is not a baseline: {error}") from error
    if baseline.version > VERSION:
        raise UsageError(
            f"{path} was written by a newer Burnish (version {baseline.version}): update Burnish"
        )
    return baseline


def _differences(build: Build, recorded: dict[str, BaselineEntry]) -> Iterator[Difference]:
    rows = {_key(row): row for row in build.artifacts}
    for key, before in recorded.items():
        if key not in rows:
            yield Difference("regression", key, "is missing")
            continue
        row = rows[key]
        now = _entry(row)
        if now.status == before.status or row.unproven:
            for kind, description in _number_changes(before, now):
                yield Difference(kind, key, description)
        else:
            is_better = _RANK.index(now.status) > _RANK.index(before.status)
            status_kind: Kind = "improvement" if is_better else "regression"
            yield Difference(status_kind, key, f"status {before.status} -> {now.status}")
    for key, row in rows.items():
        if key not in recorded and not row.unproven:
            yield Difference("improvement", key, "is new")


def _number_changes(before: BaselineEntry, now: BaselineEntry) -> Iterator[tuple[Kind, str]]:
    yield from _speed_changes(before, now)
    if before.noise and now.noise:
        worst, best = before.noise * _NOISE_FACTOR, before.noise / _NOISE_FACTOR
        yield from _changed("noise", before.noise, now.noise, worst, best)
    if before.noise is None and before.sqnr_db is not None and now.sqnr_db is not None:
        error, worst, best = -before.sqnr_db, -before.sqnr_db + _SQNR_DB, -before.sqnr_db - _SQNR_DB
        yield from _changed("SQNR in dB", error, -now.sqnr_db, worst, best)
    if before.top1_agreement is not None and now.top1_agreement is not None:
        margin = _AGREEMENT_SAMPLES / max(before.samples or 1, 1)
        lost = 1 - before.top1_agreement
        lost_now = 1 - now.top1_agreement
        yield from _changed("top-1 disagreement", lost, lost_now, lost + margin, lost - margin)
    if before.size_bytes and now.size_bytes:
        worst = before.size_bytes * (1 + _SIZE_MARGIN)
        best = before.size_bytes * (1 - _SIZE_MARGIN)
        yield from _changed("size in bytes", before.size_bytes, now.size_bytes, worst, best)


def _speed_changes(before: BaselineEntry, now: BaselineEntry) -> Iterator[tuple[Kind, str]]:
    if not (before.ci95 and now.ci95):
        return
    text = (
        f"speed-up {before.speedup:.2f}x ({_range(before.ci95)}) -> "
        f"{now.speedup:.2f}x ({_range(now.ci95)})"
    )
    if now.ci95[1] < before.ci95[0] * (1 - _SPEED_MARGIN):
        yield "regression", text
    elif now.ci95[0] > before.ci95[1] * (1 + _SPEED_MARGIN):
        yield "improvement", text


def _changed(
    name: str, before: float, now: float, worst: float, best: float
) -> Iterator[tuple[Kind, str]]:
    """Yield a change, if a number that should be small left the range from `best` to `worst`."""
    text = f"{name} {abs(before):g} -> {abs(now):g}"
    if now > worst:
        yield "regression", text
    elif now < best:
        yield "improvement", text


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2f}-{interval[1]:.2f}"


def _name(build: Build) -> str:
    return str(build.recipe.get("name") or build.model)


def _key(row: Row) -> str:
    return f"{row.name}@{row.device}"


def _entry(row: Row) -> BaselineEntry:
    is_lossy = row.precision != "fp32"
    # A ratio that is not known differs from none.
    is_known = row.speed.stable is not False and not row.unproven
    return BaselineEntry(
        status=row.status,
        noise=None if is_lossy else row.parity.noise,
        sqnr_db=row.parity.sqnr_db,
        top1_agreement=row.parity.top1_agreement,
        samples=row.parity.samples,
        speedup=row.speed.speedup if is_known else None,
        ci95=row.speed.ci95 if is_known else None,
        size_bytes=row.size_bytes,
    )
