"""Tables fit the terminal, and no word of them is broken."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from burnish.report.rows import fitting_widths, print_rows

COLUMNS = ("artifact", "numbers", "speed-up (95 %)", "size")
ROWS = [
    ["onnx", "5.22x noise", "19.70x (7.19-52.14) unstable", "3.2 MB"],
    ["openvino-int8", "16.2 dB", "26.29x (14.52-66.68) unstable", "944.6 kB"],
    ["tensorrt", "", "", "3.5 MB"],
]


def printed(width: int) -> str:
    out = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    print_rows(COLUMNS, [[Text(cell) for cell in row] for row in ROWS], out)
    return out.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("width", range(34, 120))
def test_no_word_is_broken_and_no_line_is_too_long(width: int) -> None:
    text = printed(width)
    words = text.split()
    assert all(word in words for row in ROWS for cell in row for word in cell.split())
    assert max(map(len, text.splitlines())) <= width


def test_a_wide_terminal_shows_a_line_per_row() -> None:
    assert len([line for line in printed(100).splitlines() if line.strip()]) == 2 + len(ROWS)


def test_a_narrow_terminal_shows_records_without_empty_cells() -> None:
    *_, last = printed(34).strip().split("\n\n")
    assert [line.split()[0] for line in last.splitlines() if line.strip()] == ["artifact", "size"]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1), st.integers(0, 400))
def test_columns_take_all_the_room_that_they_need(sizes: list[tuple[int, int]], room: int) -> None:
    least, most = [size for size, _ in sizes], [size + more for size, more in sizes]
    widths = fitting_widths(least, most, room)
    if widths is None:
        assert sum(least) > room
        return
    assert all(low <= width <= high for low, width, high in zip(least, widths, most, strict=True))
    assert sum(widths) == min(room, sum(most))
