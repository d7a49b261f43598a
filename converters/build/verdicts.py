"""Cached verdicts: an unchanged artifact is not measured again.

Verdicts are cached if the artifact passed, or cannot run here. A failure is always measured again,
and so is a measurement that left a gate undecided, even one that the recipe does not ask for. Its
times are kept: to the next measurement under the same conditions they are one more launch.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

import runtimes
from converters.digest import Key
from runtimes.artifact.artifact import sha256
from runtimes.files.atomic import write_atomically
from runtimes.machine import machine
from runtimes.results import Row, Status
from runtimes.session import unavailable
from runtimes.validator.defaults import KEPT_SPREAD, MOST_LAUNCHES
from runtimes.validator.gates.speed import is_sure
from runtimes.validator.validate import Target

_MAX_VERDICTS = 5000  # some kilobytes each
_BURSTS = TypeAdapter(list[dict[str, list[float]]])
_TRANSIENT = ("load", "affinity")  # facts of the machine that change daily: no reason to remeasure


@dataclass(frozen=True)
class Verdicts:
    """The verdicts in a folder, which need not exist yet.

    Attributes:
        folder: holds a file for each verdict.
        conditions: digest of the other dependencies of all verdicts, see `conditions`.
        lasting: digest of those that a longer measurement does not change.
    """

    folder: Path
    conditions: str
    lasting: str = ""

    def get(self, target: Target) -> Row | None:
        """Return the verdict on an unchanged artifact under unchanged conditions, or None."""
        try:
            record = json.loads(self._path(target).read_text(encoding="utf-8"))
            row = Row.model_validate(record["row"])
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            return None
        if record.get("digest") != _digest(row):
            return None
        if row.status is Status.BUILT and unavailable(target.artifact, target.device) is None:
            return None  # there is a device or a driver now
        artifact = target.artifact
        return row.model_copy(
            update={
                "judged": record.get("judged"),
                "path": artifact.path.name,
                "name": artifact.manifest.name,
            }
        )

    def earlier(self, target: Target) -> list[dict[str, list[float]]]:
        """Return the bursts of earlier measurements that left a gate undecided."""
        try:
            text = self._times_path(target).read_text(encoding="utf-8")
            return _BURSTS.validate_json(text)
        except (OSError, ValueError):
            return []

    def put(self, target: Target, row: Row) -> None:
        """Cache a verdict, if it is of a kind that is cached and the folder can be written."""
        if row.undecided:
            self._put_times(target, row)
        if row.status not in (Status.PASSED, Status.BUILT) or row.judged or row.undecided:
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            judged = datetime.now(UTC).isoformat(timespec="seconds")
            record = {"row": row.model_dump(mode="json"), "judged": judged, "digest": _digest(row)}
            write_atomically(self._path(target), json.dumps(record))
            self._trim()

    def _put_times(self, target: Target, row: Row) -> None:
        """Keep the times of an undecided measurement, if they are worth it.

        A ratio of a slow machine, of few rounds, or one that nobody knows within a factor of two
        would only spoil the next.
        """
        speed = row.speed
        low, high = speed.ci95 or (0.0, 1.0)
        if not is_sure(speed) or high > KEPT_SPREAD * low:
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            launches = [*target.earlier, speed.bursts][-MOST_LAUNCHES:]
            write_atomically(self._times_path(target), json.dumps(launches))
            self._trim()

    def _trim(self) -> None:
        files = list(self.folder.glob("*.json"))
        files.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[_MAX_VERDICTS:]:
            path.unlink(missing_ok=True)

    def _path(self, target: Target) -> Path:
        return self.folder / f"{_key(target, self.conditions)}.json"

    def _times_path(self, target: Target) -> Path:
        return self.folder / f"{_key(target, self.lasting)}-times.json"


def _key(target: Target, conditions: str) -> str:
    """Return the digest of an artifact, its parent and device under these conditions."""
    key = Key()
    key.add("conditions", conditions)
    key.add("device", target.device)
    for artifact in (target.artifact, target.parent):
        # The digest of the recipe is left out: its other artifacts do not matter to this one.
        without_recipe = {"provenance": {"recipe"}}
        text = artifact.manifest.model_dump_json(exclude=without_recipe) if artifact else ""
        key.add("artifact", text)
    return key.hex()


def conditions(budget: float, eager: str, reference: Path) -> str:
    """Return the digest of everything that verdicts depend on beside their artifacts.

    Args:
        budget: seconds of timing per artifact.
        eager: digest of the eager model that is timed beside them.
        reference: file of the reference that judges them.
    """
    facts = machine.describe()
    lasting = {name: value for name, value in facts.items() if name not in _TRANSIENT}
    parts = [
        json.dumps(lasting, sort_keys=True),
        str(budget),
        eager,
        sha256(reference),
        machine.burnish_version(),
    ]
    parts += map(sha256, sorted(Path(runtimes.__file__).parent.rglob("*.py")))
    key = Key()
    for part in parts:
        key.add("part", part)
    return key.hex()


def cached_verdicts_note(rows: Sequence[Row]) -> list[str]:
    """Return a note if some verdicts are those of an earlier build, else nothing."""
    dates = sorted(row.judged for row in rows if row.judged)
    if not dates:
        return []
    return [
        f"{len(dates)} of {len(rows)} verdicts are from earlier builds (the last from {dates[-1]}); "
        "nothing that they depend on has changed since: --fresh measures again"
    ]


def _digest(row: Row) -> str:
    key = Key()
    key.add("row", row.model_dump_json())
    return key.hex()
