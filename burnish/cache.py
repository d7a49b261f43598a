"""The cache of steps for `burnish cache`: list its entries, verify them, remove some."""

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
class CacheEntry:
    """One cached result: its step, recipe and bytes, and when it was last used (ISO 8601, UTC)."""

    key: str
    step: str
    recipe: str
    bytes: int
    used: str
    folder: Path


def open_cache() -> StepCache:
    """Return this user's cache of steps."""
    return StepCache(cache_folder() / "steps", Path.cwd())


def entries(cache: StepCache) -> list[CacheEntry]:
    """Return every entry, the last used first."""
    return list(map(_entry, cache.entries()))


def _entry(info: EntryInfo) -> CacheEntry:
    return CacheEntry(
        key=info.folder.name,
        step=str(info.description.get("step", "?")),
        recipe=str(info.description.get("recipe", "?")),
        bytes=info.size,
        used=datetime.fromtimestamp(info.used, UTC).isoformat(timespec="seconds"),
        folder=info.folder,
    )


def remove_damaged(cache: StepCache) -> list[CacheEntry]:
    """Remove the entries whose files have changed, and return them."""
    damaged = []
    for entry in entries(cache):
        if not Entry.at(entry.folder).is_intact():
            cache.drop(entry.folder, lambda message: None)
            damaged.append(entry)
    return damaged


def prune(cache: StepCache, limit: str | None) -> int:
    """Remove the least recently used entries beyond `limit`; return the bytes removed."""
    return cache.trim(CACHE_LIMIT if limit is None else parse_size(limit))


def clear(cache: StepCache) -> int:
    """Remove every entry that no build is using, and every verdict; return the bytes removed."""
    removed = cache.trim(0)
    shutil.rmtree(cache_folder() / "verdicts", ignore_errors=True)
    return removed


def parse_size(text: str) -> int:
    """Return the bytes of a size such as 500M or 10G. Raises UsageError for anything else."""
    number, unit = text.strip().lower().removesuffix("b"), ""
    if number[-1:] in ("k", "m", "g", "t"):
        number, unit = number[:-1], number[-1]
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise UsageError(f"{text!r} is not a size: use bytes, or a unit as in 500M or 10G")
    return int(value * _UNITS[unit])
