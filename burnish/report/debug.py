"""The result of `burnish debug`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from burnish.report.terminal import console, show_table
from burnish.report.text import line
from converters.debug.result import DebugResult, LayerReport

_COLUMNS = ("layer", "node", "dtype", "shape", "error before", "after", "its own", "SQNR", "noise")


def show_debug(found: DebugResult) -> None:
    """The first diverging layer, the layers that add most error, and what could not be compared."""
    out = console()
    style = "bold green" if found.first is None else "bold red"
    out.print(Text(line(headline(found)), style=style), soft_wrap=True)
    for one in details(found.first):
        out.print(Text(line(one)), soft_wrap=True)
    if found.adders:
        out.print(Text(f"\nlayers that add most error, of {len(found.series)} measured:"))
        show_table(_COLUMNS, [_cells(one) for one in found.adders], out)
    for one in remarks(found):
        out.print(Text(line(one)), soft_wrap=True)


def headline(found: DebugResult) -> str:
    """The answer in one sentence."""
    name = f"{found.artifact} ({found.format}, {found.precision})"
    one = found.first
    if one is None:
        return f"{name}: no layer diverges on the probe {found.probe!r}; allowed is {found.limit}"
    node = f"{one.op or 'node'} {one.node}"
    if not one.runs:
        place = f"before {one.layer}" if one.blameless else f"in {one.layer}"
        return f"{name}: the graph stops on the probe {found.probe!r}, {place} ({node})"
    if one.blameless:
        source = f"that of {' and '.join(one.inputs)}" if one.inputs else "the input's"
        return (
            f"{name}: no layer is to blame on the probe {found.probe!r}: what enters {one.layer} is wrong already: "
            f"its relative error is {_error(one.error_entering or 0.0)}, {source} {_error(one.error_before)}"
        )
    return (
        f"{name}: {one.layer} is the first layer that diverges on the probe {found.probe!r}: its relative error is "
        f"{_error(one.error_after)}, its inputs' {_error(one.error_before)} ({node})"
    )


def remarks(found: DebugResult) -> list[str]:
    """What was not compared, and notes."""
    groups = groupby(sorted(found.unmatched, key=lambda one: one.why), key=lambda one: one.why)
    missing = [f"not compared: {', '.join(one.layer for one in group)} ({why})" for why, group in groups]
    return [*missing, *found.notes]


def details(first: LayerReport | None) -> list[str]:
    """What is known of the fault of the first layer that diverges."""
    if first is None:
        return []
    if not first.through:
        return list(first.looks)
    nodes = ", ".join(first.through)
    if first.blameless:
        where = (
            f"the fault is between {' and '.join(first.inputs) or 'the input'} and it, in what is no layer: {nodes}"
        )
    elif first.error_entering is not None:
        where = (
            f"what enters it has an error of {_error(first.error_entering)}, it makes the rest; before it: {nodes}"
        )
    else:
        where = f"between its inputs and it, part of no layer, where the fault may be too: {nodes}"
    return [*first.looks, where]


def _cells(one: LayerReport) -> Sequence[str]:
    shape = "x".join(map(str, one.shape))
    ratio = f"{one.sqnr_db:.1f} dB" if math.isfinite(one.sqnr_db) else "-inf"
    before, after = _error(one.error_before), _error(one.error_after)
    name = f"before {one.layer}" if one.blameless else one.layer
    return name, one.node, one.dtype, shape, before, after, _error(one.added), ratio, f"{one.noise:.3g}x"


def _error(value: float) -> str:
    return f"{value:.2g}"
