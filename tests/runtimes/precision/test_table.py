"""The table has a row for each mode that an exporter offers, with an effect on each kind of layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.exporters import EXPORTERS
from runtimes.precision.table import KINDS, TABLE, WORDS, Kind, row_of

MODES = [(name, mode) for name in EXPORTERS.names() for mode in EXPORTERS.get(name).quantization]


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_each_mode_of_each_format_has_a_row(name: str, mode: str) -> None:
    assert (name, mode) in TABLE
    assert set(row_of(name, mode)) == set(KINDS)
    assert "always" in row_of(name, mode).values()


def test_the_page_has_the_same_table() -> None:
    page = Path(__file__).parents[3].joinpath("docs", "quantization.md").read_text("utf-8")
    table = page.split("### What a mode promises")[1].split("*Always*")[0]
    rows = [line.strip("| ").split(" | ") for line in table.strip().splitlines()[2:]]
    kinds: list[Kind] = ["convolution", "linear", "product", "lstm", "recurrent"]
    modes = ("static", "dynamic", "weight-only")
    listed = dict(zip(kinds, (row[1:] for row in rows), strict=True))
    assert listed == {kind: [TABLE["onnx", mode][kind] for mode in modes] for kind in kinds}


def test_each_kind_has_words() -> None:
    assert set(WORDS) == set(KINDS)
