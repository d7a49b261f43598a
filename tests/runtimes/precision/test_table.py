"""The table has a row for each mode that an exporter offers, with an effect on each kind of layer."""

from __future__ import annotations

import pytest

from converters.exporters import EXPORTERS
from runtimes.precision.table import KINDS, TABLE, WORDS, row_of

MODES = [(name, mode) for name in EXPORTERS.names() for mode in EXPORTERS.get(name).quantization]


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_each_mode_of_each_format_has_a_row(name: str, mode: str) -> None:
    assert (name, mode) in TABLE
    assert set(row_of(name, mode)) == set(KINDS)
    assert "always" in row_of(name, mode).values()


def test_each_kind_has_words() -> None:
    assert set(WORDS) == set(KINDS)
