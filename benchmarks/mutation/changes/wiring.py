"""Defects of wiring: inputs, outputs, classes and samples exchanged, a state not passed on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx_ir as ir

from mutation.changes.change import Place
from mutation.formats.graph import Builder, Graph, is_float
from runtimes.validator.probes import batch_dimension

_ORDERED = ("Sub", "Div", "MatMul", "Concat", "Pow", "Greater", "Less", "Gemm")


def inputs_exchanged(graph: Graph) -> Iterator[Place]:
    """Exchange two inputs of the graph, or of a node whose inputs have an order."""
    inputs = list(graph.model.graph.inputs)
    for first, second in itertools.combinations(inputs, 2):
        if first.dtype == second.dtype:
            yield Place(f"{first.name}, {second.name}", partial(_exchange, first, second))
    for node in graph.nodes():
        if node.op_type in _ORDERED and len(node.inputs) > 1:
            where = f"of {node.op_type} {node.outputs[0].name}"
            yield Place(where, partial(_exchange_inputs, node))


def outputs_exchanged(graph: Graph) -> Iterator[Place]:
    """Exchange two outputs of the graph; the names stay in their order."""
    outputs = graph.model.graph.outputs
    for first, second in itertools.combinations(range(len(outputs)), 2):
        if outputs[first].dtype == outputs[second].dtype:
            where = f"{outputs[first].name}, {outputs[second].name}"
            yield Place(where, partial(_exchange_outputs, graph, first, second))


def classes_exchanged(graph: Graph) -> Iterator[Place]:
    """Exchange two indices of an output's axis."""
    for output in list(graph.model.graph.outputs):
        for axis, size in enumerate(graph.outputs[str(output.name)].shape):
            if axis and isinstance(size, int) and size > 1:
                where = f"axis {axis} of {output.name}"
                yield Place(where, partial(_exchange_classes, graph, output, axis, size))


def state_not_passed_on(graph: Graph) -> Iterator[Place]:
    """Return an input's state unchanged, or forget the one that comes in."""
    inputs, outputs = list(graph.model.graph.inputs), list(graph.model.graph.outputs)
    for state, output in itertools.product(inputs, outputs):
        if _same_spec(graph, state, output):
            where = f"{output.name} is {state.name}"
            yield Place(where, partial(_pass_through, graph, state, output))
            yield Place(f"{state.name} is zero", partial(_forget, graph, state))
    for node in graph.nodes():
        if node.op_type in ("LSTM", "GRU") and len(node.outputs) > 1 and node.outputs[1].uses():
            where = f"last state of {node.op_type} {node.outputs[1].name}"
            yield Place(where, partial(_forget, graph, node.outputs[1]))


def samples_mixed(graph: Graph) -> Iterator[Place]:
    """Mix the rows of a batch: rolled, reversed, blended with the mean, or all like the first."""
    batch = batch_dimension(graph.inputs)
    if batch is None:
        return
    values = [value for node in graph.nodes() for value in node.outputs]
    for value in values:
        output = value.is_graph_output() and graph.outputs[str(value.name)].shape[:1] == (batch,)
        inner = value.shape is not None and len(value.shape) > 1 and _is_batch(value, batch)
        if is_float(value) and (output or inner):
            for form in ("rolled", "reversed", "blended", "first"):
                where = f"rows of {value.name} {form}"
                yield Place(where, partial(_mix, graph, value, form))


def _is_batch(value: ir.Value, batch: str) -> bool:
    assert value.shape is not None
    return str(value.shape[0]) in (batch, f"SymbolicDim({batch})")


def _exchange(first: ir.Value, second: ir.Value, rng: np.random.Generator) -> str:
    uses, others = list(first.uses()), list(second.uses())
    for use in uses:
        use.node.replace_input_with(use.idx, second)
    for use in others:
        use.node.replace_input_with(use.idx, first)
    return "exchanged"


def _exchange_inputs(node: ir.Node, rng: np.random.Generator) -> str:
    first, second = node.inputs[:2]
    node.replace_input_with(0, second)
    node.replace_input_with(1, first)
    return "exchanged"


def _exchange_outputs(graph: Graph, first: int, second: int, rng: np.random.Generator) -> str:
    outputs = graph.model.graph.outputs
    before, after = outputs[first], outputs[second]
    before.name, after.name = after.name, before.name
    outputs[first], outputs[second] = after, before
    return "exchanged"


def _exchange_classes(
    graph: Graph, output: ir.Value, axis: int, size: int, rng: np.random.Generator
) -> str:
    first = int(rng.integers(size - 1))
    order = np.arange(size)
    order[[first, first + 1]] = order[[first + 1, first]]
    graph.route(output, lambda builder: builder.op("Gather", output, order, axis=axis))
    return f"{first} and {first + 1} exchanged"


def _same_spec(graph: Graph, state: ir.Value, output: ir.Value) -> bool:
    before, after = graph.inputs[str(state.name)], graph.outputs[str(output.name)]
    return (before.shape, before.dtype) == (after.shape, after.dtype)


def _pass_through(graph: Graph, state: ir.Value, output: ir.Value, rng: np.random.Generator) -> str:
    graph.route(output, lambda builder: builder.op("Identity", state))
    return "not passed on"


def _forget(graph: Graph, state: ir.Value, rng: np.random.Generator) -> str:
    dtype = np.float16 if state.dtype == ir.DataType.FLOAT16 else np.float32
    zero = np.asarray(0, dtype)
    graph.route(state, lambda builder: builder.op("Mul", state, zero))
    return "forgotten"


def _mix(graph: Graph, value: ir.Value, form: str, rng: np.random.Generator) -> str:
    def rows(*bounds: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.asarray(bounds, np.int64)

    dtype = np.float16 if value.dtype == ir.DataType.FLOAT16 else np.float32
    far = np.iinfo(np.int64).max

    def change(builder: Builder) -> ir.Value:
        if form == "reversed":
            return builder.op("Slice", value, rows(-1), rows(-far), rows(0), rows(-1))
        if form == "rolled":
            last = builder.op("Slice", value, rows(-1), rows(far), rows(0), rows(1))
            others = builder.op("Slice", value, rows(0), rows(-1), rows(0), rows(1))
            return builder.op("Concat", last, others, axis=0)
        first = builder.op("Slice", value, rows(0), rows(1), rows(0), rows(1))
        if form == "first":
            return builder.op("Expand", first, builder.op("Shape", value))
        mean = builder.op("ReduceMean", value, rows(0), keepdims=1)
        kept = builder.op("Mul", value, np.asarray(0.9, dtype))
        return builder.op("Add", kept, builder.op("Mul", mean, np.asarray(0.1, dtype)))

    graph.route(value, change)
    return form
