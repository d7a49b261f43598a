"""What `burnish cache` does: show what is kept between builds, verify it, remove some of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from converters.steps.cache import CACHE_LIMIT, EntryInfo, StepCache
from converters.steps.entry import Entry
from runtimes.errors import UsageError
from runtimes.machine.machine import cache_folder

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@dataclass(frozen=True)
class Kept:
    """One result in the cache: of which step and recipe, its bytes, when it was last used (ISO 8601, UTC)."""

    key: str
    step: str
    recipe: str
    bytes: int
    used: str
    folder: Path


def opened() -> StepCache:
    """This user's cache of steps."""
    return StepCache(cache_folder() / "steps", Path.cwd())


def kept(cache: StepCache) -> list[Kept]:
    """Every entry, the last used first."""
    return [_entry(info) for info in cache.entries()]


def _entry(info: EntryInfo) -> Kept:
    step = info.description
    used = datetime.fromtimestamp(info.used, UTC).isoformat(timespec="seconds")
    name, recipe = str(step.get("step", "?")), str(step.get("recipe", "?"))
    return Kept(info.folder.name, name, recipe, info.size, used, info.folder)


def damaged(cache: StepCache) -> list[Kept]:
    """Entries whose files are not what they were; they are removed."""
    found = [one for one in kept(cache) if not Entry.at(one.folder).is_intact()]
    for one in found:
        cache.drop(one.folder, lambda message: None)
    return found


def prune(cache: StepCache, limit: str | None) -> int:
    """Remove what was not used for longest until the rest is within `limit`; returns the bytes removed."""
    return cache.trim(CACHE_LIMIT if limit is None else size(limit))


def clear(cache: StepCache) -> int:
    """Remove every result that no build is using, and every verdict; returns the bytes removed."""
    removed = cache.trim(0)
    shutil.rmtree(cache_folder() / "verdicts", ignore_errors=True)
    return removed


def size(text: str) -> int:
    """Bytes of a size such as 500M or 10G. Raises UsageError for anything else."""
    number, unit = text.strip().lower().removesuffix("b"), ""
    if number[-1:] in ("k", "m", "g", "t"):
        number, unit = number[:-1], number[-1]
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise UsageError(f"{text!r} is no size: give bytes, or such as 500M or 10G")
    return int(value * _UNITS[unit])
