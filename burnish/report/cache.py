"""The reports of `burnish cache` and `burnish convert --explain`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from burnish.cache import CacheEntry
from burnish.report.text import clean, line
from converters.build.explain import Explanation
from converters.steps.cache import CACHE_LIMIT


def show_cache(entries: Sequence[CacheEntry], folder: str, console: Console) -> None:
    """Show a table of entries, and their total size."""
    table = Table("recipe", "step", "MB", "last used", box=None, pad_edge=False)
    for entry in entries:
        recipe, step = Text(line(entry.recipe)), Text(line(entry.step))
        table.add_row(recipe, step, f"{entry.bytes / 1e6:.1f}", entry.used)
    if entries:
        console.print(table)
    total = sum(entry.bytes for entry in entries) / 1e6
    limit = CACHE_LIMIT / 1e6
    summary = f"{len(entries)} results, {total:.0f} MB of at most {limit:.0f} MB in {clean(folder)}"
    console.print(Text(summary))


def show_explanations(explanations: Sequence[Explanation], console: Console) -> None:
    """Show a line for each step."""
    for explanation in explanations:
        word, style = ("cached  ", "green") if explanation.cached else ("must run", "yellow")
        why = f": {clean(explanation.why)}" if explanation.why else ""
        text = Text.assemble((word, style), "  ", clean(explanation.step), why)
        console.print(text, soft_wrap=True)


def as_data(entries: Sequence[CacheEntry]) -> list[dict[str, Any]]:
    """Return the entries as JSON."""
    return [{**asdict(entry), "folder": str(entry.folder)} for entry in entries]
