"""The result of `burnish debug`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from burnish.report.terminal import console, show_table
from burnish.report.text import clean
from converters.debug.result import DebugResult, LayerReport

_COLUMNS = ("layer", "node", "dtype", "shape", "error before", "after", "its own", "SQNR", "noise")


def show_debug(found: DebugResult) -> None:
    """The first diverging layer, the layers that add most error, and what could not be compared."""
    out = console()
    style = "bold green" if found.first is None else "bold red"
    out.print(Text(clean(headline(found)), style=style), soft_wrap=True)
    for line in _through(found.first):
        out.print(Text(clean(line)), soft_wrap=True)
    if found.adders:
        out.print(Text(f"\nlayers that add most error, of {len(found.series)} measured:"))
        show_table(_COLUMNS, [_cells(one) for one in found.adders], out)
    for line in remarks(found):
        out.print(Text(clean(line)), soft_wrap=True)


def headline(found: DebugResult) -> str:
    """The answer in one sentence."""
    name = f"{found.artifact} ({found.format}, {found.precision})"
    if found.first is None:
        return f"{name}: no layer diverges on the probe {found.probe!r}; allowed is {found.limit}"
    one = found.first
    return (
        f"{name}: {one.layer} is the first layer that diverges on the probe {found.probe!r}: its relative error is "
        f"{_error(one.error_after)}, its inputs' {_error(one.error_before)} ({one.op or 'node'} {one.node})"
    )


def remarks(found: DebugResult) -> list[str]:
    """What was not compared, and notes."""
    groups = groupby(sorted(found.unmatched, key=lambda one: one.why), key=lambda one: one.why)
    missing = [f"not compared: {', '.join(one.layer for one in group)} ({why})" for why, group in groups]
    return [*missing, *found.notes]


def _through(first: LayerReport | None) -> list[str]:
    if first is None or not first.through:
        return []
    return [f"between its inputs and it, part of no layer: {', '.join(first.through)}; the fault may be in these"]


def _cells(one: LayerReport) -> Sequence[str]:
    shape = "x".join(map(str, one.shape))
    ratio = f"{one.sqnr_db:.1f} dB" if math.isfinite(one.sqnr_db) else "-inf"
    before, after = _error(one.error_before), _error(one.error_after)
    return one.layer, one.node, one.dtype, shape, before, after, _error(one.added), ratio, f"{one.noise:.3g}x"


def _error(value: float) -> str:
    return f"{value:.2g}"
