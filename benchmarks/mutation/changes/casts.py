"""Defects of precision: a weight or a value goes through a narrower type, or saturates."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import ml_dtypes
import numpy as np
import onnx_ir as ir

from mutation.changes.change import Constant, Place
from mutation.formats.format import Editable
from mutation.formats.graph import Graph, is_float

_NARROW = {
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
    "int16": ir.DataType.INT16,
}
BOUNDS = (4.0, 6.0, 127.0, 1000.0)


def weight_cast(graph: Editable) -> Iterator[Place]:
    """Round a tensor of weights to float16, bfloat16 or 256 steps."""
    for constant in graph.constants():
        if constant.array.dtype == np.float32 and constant.array.size > 1:
            yield Place(constant.name, partial(_round, constant))


def value_cast(graph: Graph) -> Iterator[Place]:
    """Cast a computed value to a narrower type and back."""
    for value in _float_values(graph):
        for name in _NARROW:
            yield Place(f"{value.name} as {name}", partial(_cast, graph, value, name))


def value_saturated(graph: Graph) -> Iterator[Place]:
    """Cut a computed value to a range, as a cast with saturation does."""
    for value in _float_values(graph):
        yield Place(str(value.name), partial(_saturate, graph, value))


def _float_values(graph: Graph) -> Iterator[ir.Value]:
    for node in graph.nodes():
        for value in node.outputs:
            if is_float(value) and (value.uses() or value.is_graph_output()):
                yield value


def _round(constant: Constant, rng: np.random.Generator) -> str:
    array = constant.array
    form = str(rng.choice(["float16", "bfloat16", "256 steps"]))
    if form == "256 steps":
        step = float(np.abs(array).max()) / 127 or 1.0
        rounded = np.round(array / step) * step
    else:
        rounded = array.astype(np.float16 if form == "float16" else ml_dtypes.bfloat16)
    constant.write(rounded.astype(np.float32))
    return f"rounded to {form}"


def _cast(graph: Graph, value: ir.Value, name: str, rng: np.random.Generator) -> str:
    back = value.dtype
    graph.route(
        value,
        lambda builder: builder.op(
            "Cast", builder.op("Cast", value, to=int(_NARROW[name])), to=int(back or 1)
        ),
    )
    return f"cast to {name} and back"


def _saturate(graph: Graph, value: ir.Value, rng: np.random.Generator) -> str:
    bound = float(rng.choice(BOUNDS))
    dtype = np.float16 if value.dtype == ir.DataType.FLOAT16 else np.float32
    low, high = np.asarray(-bound, dtype), np.asarray(bound, dtype)
    graph.route(value, lambda builder: builder.op("Clip", value, low, high))
    return f"cut to {-bound:g}..{bound:g}"
