"""The report of `burnish debug`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from burnish.report.terminal import console, show_table
from burnish.report.text import line
from converters.debug.result import DebugResult, LayerReport

_COLUMNS = ("layer", "node", "dtype", "shape", "error before", "after", "its own", "SQNR", "noise")


def show_debug(result: DebugResult) -> None:
    """Show the first diverging layer, the layers that add most error, and what was not compared."""
    out = console()
    style = "bold green" if result.first is None else "bold red"
    out.print(Text(line(headline(result)), style=style), soft_wrap=True)
    for detail in details(result.first):
        out.print(Text(line(detail)), soft_wrap=True)
    if result.adders:
        out.print(Text(f"\nlayers that add most error, of {len(result.series)} measured:"))
        show_table(_COLUMNS, list(map(_cells, result.adders)), out)
    for remark in remarks(result):
        out.print(Text(line(remark)), soft_wrap=True)


def headline(result: DebugResult) -> str:
    """Return the result in one sentence."""
    name = f"{result.artifact} ({result.format}, {result.precision})"
    probe, layer = repr(result.probe), result.first
    if layer is None:
        return f"{name}: no layer diverges on the probe {probe}; the limit is {result.limit}"
    node = f"{layer.op or 'node'} {layer.node}"
    if not layer.runs:
        place = f"before {layer.layer}" if layer.blameless else f"in {layer.layer}"
        return f"{name}: the graph stops on the probe {probe}, {place} ({node})"
    before = _error(layer.error_before)
    if layer.blameless:
        entering = _error(layer.error_entering or 0.0)
        source = f"that of {' and '.join(layer.inputs)}" if layer.inputs else "that of the input"
        return (
            f"{name}: no layer is to blame on the probe {probe}: the input of {layer.layer} is "
            f"wrong already: its relative error is {entering}, {source} {before}"
        )
    return (
        f"{name}: {layer.layer} is the first layer that diverges on the probe {probe}: its "
        f"relative error is {_error(layer.error_after)}, that of its inputs {before} ({node})"
    )


def remarks(result: DebugResult) -> list[str]:
    """Return the layers that were not compared, by reason, and the notes."""
    lines = []
    unmatched = sorted(result.unmatched, key=lambda layer: layer.why)
    for why, group in groupby(unmatched, key=lambda layer: layer.why):
        layers = ", ".join(layer.layer for layer in group)
        lines.append(f"not compared: {layers} ({why})")
    return [*lines, *result.notes]


def details(first: LayerReport | None) -> list[str]:
    """Return the details of the fault of the first layer that diverges."""
    if first is None:
        return []
    if not first.through:
        return list(first.looks)
    nodes = ", ".join(first.through)
    if first.blameless:
        inputs = " and ".join(first.inputs) or "the input"
        place = f"the fault is between {inputs} and it, in nodes that belong to no layer: {nodes}"
    elif first.error_entering is not None:
        entering = _error(first.error_entering)
        place = f"its input has an error of {entering}, it adds the remainder; before it: {nodes}"
    else:
        place = f"the fault may also be in nodes before it that belong to no layer: {nodes}"
    return [*first.looks, place]


def _cells(layer: LayerReport) -> Sequence[str]:
    shape = "x".join(map(str, layer.shape))
    sqnr = f"{layer.sqnr_db:.1f} dB" if math.isfinite(layer.sqnr_db) else "-inf"
    before, after, added = map(_error, (layer.error_before, layer.error_after, layer.added))
    name = f"before {layer.layer}" if layer.blameless else layer.layer
    noise = f"{layer.noise:.3g}x"
    return name, layer.node, layer.dtype, shape, before, after, added, sqnr, noise


def _error(value: float) -> str:
    return f"{value:.2g}"
