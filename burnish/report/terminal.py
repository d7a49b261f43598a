"""Tables on a terminal; plain text where there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from burnish.report.text import COLUMNS, cells, headline, line, remarks
from runtimes.results import Build, Status

_STYLES = {
    Status.PASSED: "green",
    Status.FAILED: "bold red",
    Status.ERROR: "bold red",
    Status.BUILT: "yellow",
    Status.SKIPPED: "dim",
}
_PLAIN_WIDTH = 140  # where no terminal says how wide it is


class _Console(Console):
    """One whose reader may leave (`| head -1`): what has been found out, and the exit code, stay what they are."""

    def on_broken_pipe(self) -> None:
        """Print into nothing from now on, where rich would end the program with exit code 1: a gate's."""
        self.quiet = True
        nobody_reads(sys.stderr if self.stderr else sys.stdout)


def nobody_reads(stream: TextIO | None = None) -> None:
    """Have a stream lead nowhere, once its reader has left: else Python complains of it when the program ends.

    `stream`: stdout by default.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, (stream or sys.stdout).fileno())
    os.close(nowhere)


def console(stderr: bool = False) -> Console:
    """A console that is wide enough for a table in a log file."""
    found = _Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else _Console(stderr=stderr, highlight=False, width=_PLAIN_WIDTH)


def show_builds(builds: Sequence[Build], out: Console) -> None:
    """One table over all builds, then what must be known of each."""
    many = len({build.model for build in builds}) > 1
    for build in builds:
        random = build.weights.get("random")
        out.print(Text(headline(build), style="bold yellow" if random else "bold"))
    table = Table(*((["model"] if many else []) + list(COLUMNS)), box=box.SIMPLE_HEAD, pad_edge=False)
    for build in builds:
        for row in build.artifacts:
            name, device, status, *rest = cells(row)
            lead = [Text(line(build.model))] if many else []
            table.add_row(
                *lead, Text(name), Text(device), Text(status, style=_STYLES[row.status]), *map(Text, rest)
            )
    out.print(table)
    for build in builds:
        for remark in remarks(build):
            out.print(Text(remark.replace("\n", "\n  ")), soft_wrap=True)


def show_pairs(pairs: Sequence[tuple[str, str]], out: Console) -> None:
    """Names and values in two columns."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in pairs:
        table.add_row(Text(line(name), style="bold"), Text(line(value)))
    out.print(table)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], out: Console) -> None:
    """A plain table."""
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(line(cell)) for cell in row))
    out.print(table)
