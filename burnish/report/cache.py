"""What is in the cache, and what a build would do, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from burnish.cache import Kept
from burnish.report.text import clean, line
from converters.build.explain import Explanation
from converters.steps.cache import CACHE_LIMIT


def show_cache(entries: Sequence[Kept], folder: str, console: Console) -> None:
    """A table of entries, and their size together."""
    table = Table("recipe", "step", "MB", "last used", box=None, pad_edge=False)
    for one in entries:
        table.add_row(Text(line(one.recipe)), Text(line(one.step)), f"{one.bytes / 1e6:.1f}", one.used)
    if entries:
        console.print(table)
    total = sum(one.bytes for one in entries)
    console.print(
        Text(
            f"{len(entries)} results, {total / 1e6:.0f} MB of at most {CACHE_LIMIT / 1e6:.0f} MB in {clean(folder)}"
        )
    )


def show_explained(steps: Sequence[Explanation], console: Console) -> None:
    """A line for each step."""
    for one in steps:
        word = Text("cached  ", style="green") if one.cached else Text("must run", style="yellow")
        why = f": {clean(one.why)}" if one.why else ""
        console.print(Text.assemble(word, "  ", clean(one.step), why), soft_wrap=True)


def as_data(entries: Sequence[Kept]) -> list[dict[str, Any]]:
    """The entries as JSON."""
    return [{**asdict(one), "folder": str(one.folder)} for one in entries]
