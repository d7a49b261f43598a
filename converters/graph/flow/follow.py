"""Which tensors reach an input through operators that only move or mask their values.

Exporters write one computation in many ways: they transpose, split and mask between two operators
that belong together. A look at direct neighbours misses these, so all looks follow the dataflow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

MOVERS = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "MaxPool")
"""Operators that move or select values and change none, and that all engines look through.

A dequantization is the same before and after them."""

PASSED_ON: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(MOVERS, (0,)),
    **dict.fromkeys(("Slice", "Split", "Gather", "GatherND", "GatherElements"), (0,)),
    **dict.fromkeys(("Expand", "Tile", "DepthToSpace", "SpaceToDepth", "Dropout"), (0,)),
    "GlobalMaxPool": (0,),
    "Concat": (),
}
"""Operators whose results hold values of their inputs and no others, with the indices of those
inputs; an empty tuple stands for all."""

MASKED: Mapping[str, tuple[int, ...]] = {
    **PASSED_ON,
    **dict.fromkeys(("Pad", "CenterCropPad", "Trilu", "Cast", "CastLike"), (0,)),
    "Where": (1, 2),
    "Mul": (),
}
"""The same, with those that put constants in the place of some values: masks and paddings."""


def sources(
    value: ir.Value | None, through: Mapping[str, tuple[int, ...]] = PASSED_ON
) -> Iterator[ir.Value]:
    """Yield the values that `value` holds: those before all operators of `through`."""
    pending: list[ir.Value | None] = [value]
    seen: set[ir.Value] = set()
    while pending:
        current = pending.pop()
        if current is None or current in seen:
            continue
        seen.add(current)
        producer = current.producer()
        indices = None if producer is None else through.get(producer.op_type)
        if producer is None or indices is None:
            yield current
        else:
            pending += [producer.inputs[index] for index in indices] if indices else producer.inputs


def makers(
    value: ir.Value | None, through: Mapping[str, tuple[int, ...]] = PASSED_ON
) -> list[ir.Node]:
    """Return the nodes that compute the `sources` of a value; inputs and constants have none."""
    nodes = (source.producer() for source in sources(value, through))
    return [node for node in nodes if node is not None]


def before(value: ir.Value | None, operators: Collection[str] = MOVERS) -> ir.Value | None:
    """Return the value before a chain of operators that each have one data input."""
    while value is not None:
        producer = value.producer()
        if producer is None or producer.op_type not in operators:
            return value
        value = producer.inputs[0]
    return None
