"""Tables on a terminal, or as plain text if there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from burnish.report.rows import print_rows
from burnish.report.text import COLUMNS, cells, headline, line, remarks
from runtimes.results import Build, Status

_STYLES = {
    Status.PASSED: "green",
    Status.FAILED: "bold red",
    Status.ERROR: "bold red",
    Status.BUILT: "yellow",
    Status.SKIPPED: "dim",
}
_PLAIN_WIDTH = 140  # columns without a terminal


class _Console(Console):
    """A console whose reader may leave (`| head -1`) without changing the exit status."""

    def on_broken_pipe(self) -> None:
        """Print nothing more; rich would end the program with 1, the status of a failed gate."""
        self.quiet = True
        discard_output(sys.stderr if self.stderr else sys.stdout)


def discard_output(stream: TextIO | None = None) -> None:
    """Redirect a stream to nowhere after its reader has left; Python complains at exit otherwise.

    `stream`: stdout by default.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, (stream or sys.stdout).fileno())
    os.close(nowhere)


def console(stderr: bool = False) -> Console:
    """Return a console; without a terminal it is wide enough for a table in a log file."""
    terminal = _Console(stderr=stderr, highlight=False)
    if terminal.is_terminal:
        return terminal
    return _Console(stderr=stderr, highlight=False, width=_PLAIN_WIDTH)


def show_builds(builds: Sequence[Build], out: Console) -> None:
    """Show one table over all builds, then the remarks on each."""
    with_models = len({build.model for build in builds}) > 1
    for build in builds:
        style = "bold yellow" if build.weights.get("random") else "bold"
        out.print(Text(headline(build), style=style))
    columns = ["model", *COLUMNS] if with_models else COLUMNS
    rows = []
    for build in builds:
        for row in build.artifacts:
            name, device, status, *values = map(Text, cells(row))
            status.stylize(_STYLES[row.status])
            model = [Text(line(build.model))] if with_models else []
            rows.append([*model, name, device, status, *values])
    print_rows(columns, rows, out)
    for build in builds:
        for remark in remarks(build):
            out.print(Text(remark.replace("\n", "\n  ")), soft_wrap=True)


def show_pairs(pairs: Sequence[tuple[str, str]], out: Console) -> None:
    """Show names and values in two columns."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in pairs:
        table.add_row(Text(line(name), style="bold"), Text(line(value)))
    out.print(table)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], out: Console) -> None:
    """Show a plain table."""
    texts = []
    for row in rows:
        texts.append([Text(line(cell)) for cell in row])
    print_rows(columns, texts, out)
