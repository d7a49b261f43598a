"""Rows of a table on a terminal of any width: no word is broken."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_GAP = 3  # columns between two cells, as rich draws them
_EDGES = 2  # and at both ends


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[Text]], out: Console) -> None:
    """Print a table; each row as a record of its own if the terminal is too narrow."""
    least, most = [], []
    for cells in zip(map(Text, columns), *rows, strict=True):
        least.append(max(map(_longest_word, cells)))
        most.append(max(cell.cell_len for cell in cells))
    widths = fitting_widths(least, most, out.width - _GAP * len(columns) + _GAP - _EDGES)
    if widths is None:
        _print_records(columns, rows, out)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, width=width)
    for row in rows:
        table.add_row(*row)
    out.print(table)


def fitting_widths(least: Sequence[int], most: Sequence[int], room: int) -> list[int] | None:
    """Return the widths of columns, each from its least to its most; None without room.

    Columns that lack little get it first, so that most cells take one line.
    """
    left = room - sum(least)
    if left < 0:
        return None
    widths = list(least)
    for place in sorted(range(len(widths)), key=lambda place: most[place] - least[place]):
        more = min(left, most[place] - least[place])
        widths[place] += more
        left -= more
    return widths


def _longest_word(cell: Text) -> int:
    return max(map(cell_len, cell.plain.split()), default=0)


def _print_records(columns: Sequence[str], rows: Sequence[Sequence[Text]], out: Console) -> None:
    for row in rows:
        record = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for column, cell in zip(columns, row, strict=True):
            if cell.plain:
                record.add_row(Text(column, style="dim"), cell)
        out.print()
        out.print(record)
    out.print()
