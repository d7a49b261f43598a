"""Defects of sizes: what was dynamic is frozen, bounded, or wrong at some sizes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx_ir as ir

from mutation.changes.change import Place
from mutation.formats.graph import Builder, Graph, Sizes, is_float
from runtimes.spec import best_sizes, export_sizes


def size_frozen(graph: Graph) -> Iterator[Place]:
    """Freeze a shape, a position, a mask or a grid at the sizes of one input."""
    for value in graph.size_values:
        for label, sizes in _points(graph):
            where = f"{value.name} of {_readers(value)} at {label}"
            yield Place(where, partial(_freeze, graph, value, sizes))


def size_bounded(graph: Graph) -> Iterator[Place]:
    """Bound a size from above, as a table that ends too early does."""
    for value in graph.size_values:
        if value.dtype == ir.DataType.INT64:
            where = f"{value.name} of {_readers(value)}"
            yield Place(where, partial(_bound, graph, value))


def size_conditional(graph: Graph) -> Iterator[Place]:
    """Let an output be wrong at some sizes: odd ones, one, a range, a pair."""
    outputs = [value for value in graph.model.graph.outputs if is_float(value)]
    for output in outputs:
        for name in graph.dims:
            for form in ("odd", "one", "over", "range", "pair"):
                if form != "pair" or len(graph.dims) > 1:
                    where = f"{output.name} by {name}, {form}"
                    yield Place(where, partial(_conditional, graph, output, name, form))


def _readers(value: ir.Value) -> str:
    return ", ".join(sorted({use.node.op_type for use in value.uses()}))


def _points(graph: Graph) -> list[tuple[str, Sizes]]:
    """Return sizes at which an exporter may have frozen something."""
    largest = {name: dim.max for name, dim in graph.dims.items()}
    points = {
        "export": export_sizes(graph.dims),
        "best": best_sizes(graph.dims),
        "largest": largest,
    }
    distinct = {}
    for label, sizes in points.items():
        distinct.setdefault(tuple(sizes.values()), (label, sizes))
    return list(distinct.values())


def _freeze(graph: Graph, value: ir.Value, sizes: Sizes, rng: np.random.Generator) -> str:
    observed = graph.observe(str(value.name), sizes)
    if observed is None:
        return "could not be observed"
    frozen = graph.add_constant(observed)
    for use in list(value.uses()):
        use.node.replace_input_with(use.idx, frozen)
    return f"frozen to {observed.tolist() if observed.size <= 8 else list(observed.shape)}"


def _bound(graph: Graph, value: ir.Value, rng: np.random.Generator) -> str:
    largest = graph.observe(str(value.name), {name: dim.max for name, dim in graph.dims.items()})
    if largest is None or not largest.size:
        return "could not be observed"
    bound = np.asarray(max(1, int(largest.max() * rng.uniform(0.2, 1.0))), np.int64)
    graph.route(value, lambda builder: builder.op("Min", value, bound))
    return f"at most {int(bound)}"


def _conditional(
    graph: Graph, output: ir.Value, name: str, form: str, rng: np.random.Generator
) -> str:
    """Multiply an output by 1.5 where a condition on sizes holds."""
    dim = graph.dims[name]
    span = dim.max - dim.min
    low = dim.min + int(rng.integers(span + 1)) // dim.multiple_of * dim.multiple_of
    words = f"wrong if {name} "

    def condition(builder: Builder) -> ir.Value:
        size = _size(builder, graph, name)
        if form == "odd":
            unit = np.asarray(2 * dim.multiple_of, np.int64)
            return builder.op("Greater", builder.op("Mod", size, unit), _int(0))
        if form == "one":
            return builder.op("Equal", size, _int(low))
        over = builder.op("Greater", size, _int(low - 1))
        if form == "over":
            return over
        if form == "range":
            high = low + max(1, span // 4)
            return builder.op("And", over, builder.op("Less", size, _int(high)))
        other = next(other for other in graph.dims if other != name)
        middle = (graph.dims[other].min + graph.dims[other].max) // 2
        also = builder.op("Less", _size(builder, graph, other), _int(middle))
        return builder.op("And", over, also)

    dtype = np.float16 if output.dtype == ir.DataType.FLOAT16 else np.float32

    def change(builder: Builder) -> ir.Value:
        factor = builder.op(
            "Where", condition(builder), np.asarray(1.5, dtype), np.asarray(1, dtype)
        )
        return builder.op("Mul", output, factor)

    graph.route(output, change)
    return words + {"odd": "is odd", "one": f"is {low}"}.get(form, f"is in a {form} from {low}")


def _int(value: int) -> np.ndarray[tuple[()], np.dtype[np.int64]]:
    return np.asarray(value, np.int64)


def _size(builder: Builder, graph: Graph, name: str) -> ir.Value:
    """Return a dynamic dimension's size in a running graph, as a scalar."""
    for value in graph.model.graph.inputs:
        shape = graph.inputs[str(value.name)].shape
        if name in shape:
            return builder.op("Gather", builder.op("Shape", value), _int(shape.index(name)))
    raise ValueError(f"no input has a dimension {name}")
