"""Verdicts that are kept: what nothing has changed of is not measured again.

Kept are those that passed, and those on what cannot run here; a failure is looked at anew each time.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

import runtimes
from converters.digest import Key
from runtimes.artifact.artifact import sha256
from runtimes.files.atomic import write_atomically
from runtimes.machine import machine
from runtimes.results import Row, Status
from runtimes.session import unavailable
from runtimes.validator.validate import Target

_MOST = 5000  # verdicts, some kilobytes each
_PASSING = ("load", "affinity")  # of the machine: other tomorrow, and no reason to measure again


@dataclass(frozen=True)
class Verdicts:
    """The verdicts in a folder, which need not exist yet.

    Attributes:
        folder: of a file for each.
        conditions: what all verdicts of a build depend on beside their artifacts, as `conditions` gives it.
    """

    folder: Path
    conditions: str

    def get(self, target: Target) -> Row | None:
        """The verdict on an artifact that has not changed, under conditions that have not."""
        try:
            raw = json.loads(self._path(target).read_text(encoding="utf-8"))
            row = Row.model_validate(raw["row"])
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            return None
        if raw.get("digest") != _digest(row):
            return None
        if row.status is Status.BUILT and unavailable(target.artifact, target.device) is None:
            return None  # there is a device now, or a driver
        return row.model_copy(update={"judged": raw.get("judged"), "path": target.artifact.path.name,
                                      "name": target.artifact.manifest.name})  # fmt: skip

    def put(self, target: Target, row: Row) -> None:
        """Keep a verdict, if it is one to be kept and there is a place for it."""
        if row.status not in (Status.PASSED, Status.BUILT) or row.judged:
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            judged = datetime.now(UTC).isoformat(timespec="seconds")
            kept = {"row": row.model_dump(mode="json"), "judged": judged, "digest": _digest(row)}
            write_atomically(self._path(target), json.dumps(kept))
            self._trim()

    def _trim(self) -> None:
        files = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[_MOST:]:
            path.unlink(missing_ok=True)

    def _path(self, target: Target) -> Path:
        key = Key()
        key.add("conditions", self.conditions)
        key.add("device", target.device)
        for one in (target.artifact, target.parent):
            # What else is in the recipe is no part of this artifact.
            made = one.manifest.model_dump_json(exclude={"provenance": {"recipe"}}) if one else ""
            key.add("artifact", made)
        return self.folder / f"{key.hex()}.json"


def conditions(budget: float, eager: str, reference: Path) -> str:
    """What verdicts depend on beside their artifacts.

    Args:
        budget: seconds of timing per artifact.
        eager: digest of the eager model that is timed beside them.
        reference: file that judges them.
    """
    here = {name: value for name, value in machine.describe().items() if name not in _PASSING}
    parts = [json.dumps(here, sort_keys=True), str(budget), eager, sha256(reference), machine.burnish_version()]
    sources = sorted(Path(runtimes.__file__).parent.rglob("*.py"))
    key = Key()
    for part in (*parts, *(sha256(one) for one in sources)):
        key.add("part", part)
    return key.hex()


def judged_before(rows: Sequence[Row]) -> list[str]:
    """A note where verdicts are those of an earlier build."""
    dates = sorted(row.judged for row in rows if row.judged)
    if not dates:
        return []
    return [
        f"{len(dates)} of {len(rows)} verdicts are of earlier builds (the last of {dates[-1]}); nothing that they "
        "depend on has changed since: --fresh judges anew"
    ]


def _digest(row: Row) -> str:
    key = Key()
    key.add("row", row.model_dump_json())
    return key.hex()
