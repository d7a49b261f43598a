"""ONNX graphs in hand: read, written, and changed at one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from mutation.changes.change import Array, Constant
from runtimes.spec import Dims, Specs

Sizes = dict[str, int]
Observe = Callable[[str, Sizes], Array | None]
"""Returns a value of the right graph at these sizes, by its name; None if it cannot be had."""

_SHAPE_READERS = ("Shape", "Size")
_BIASED = ("Conv", "ConvTranspose", "Gemm", "QLinearConv")
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass
class Graph:
    """A graph that is to be changed, with what its user declared.

    Attributes:
        model: changed in place.
        inputs, outputs, dims: of the artifact's manifest.
        observe: values of the unchanged graph.
    """

    model: ir.Model
    inputs: Specs
    outputs: Specs
    dims: Dims
    observe: Observe
    _count: int = field(default=0)

    @classmethod
    def read(
        cls, content: bytes, inputs: Specs, outputs: Specs, dims: Dims, observe: Observe
    ) -> Graph:
        """Read a serialized model without external data."""
        return cls(ir.from_proto(onnx.load_from_string(content)), inputs, outputs, dims, observe)

    def serialize(self) -> bytes:
        """Return the model as bytes; shapes that a change may have made untrue are left out."""
        for node in self.nodes():
            for value in node.outputs:
                if not value.is_graph_output():
                    value.shape = None
                    value.type = None
        for output in self.model.graph.outputs:
            output.shape = None
        proto: onnx.ModelProto = ir.to_proto(self.model)
        return proto.SerializeToString()

    def nodes(self) -> Iterator[ir.Node]:
        """Yield all nodes, those of branches too."""
        yield from self.model.graph.all_nodes()

    def constants(self) -> Iterator[Constant]:
        """Yield the initializers of all graphs that something reads."""
        for graph in (self.model.graph, *self.model.graph.subgraphs()):
            for value in graph.initializers.values():
                uses = [(use.node, use.idx) for use in value.uses()]
                if value.const_value is not None and uses:
                    yield Constant(
                        str(value.name),
                        np.asarray(value.const_value.numpy()),
                        partial(_set_constant, value),
                        bias=any(_adds(node, index) for node, index in uses),
                        scale=any(
                            node.op_type in _QUANTIZERS and index in (1, 2) for node, index in uses
                        ),
                    )

    def add_constant(self, array: Array) -> ir.Value:
        """Add an initializer to the outermost graph."""
        self._count += 1
        name = f"mutant_constant_{self._count}"
        tensor = ir.Tensor(array, name=name)
        value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype))
        value.const_value = tensor
        self.model.graph.register_initializer(value)
        return value

    def route(self, value: ir.Value, change: Callable[[Builder], ir.Value]) -> None:
        """Let everything that reads `value`, and the graph's output, read a computed one instead."""
        uses = list(value.uses())
        builder = Builder(self, value)
        changed = change(builder)
        producer = value.producer()
        graph = producer.graph if producer is not None else self.model.graph
        assert graph is not None
        if producer is not None:
            graph.insert_after(producer, builder.nodes)
        else:
            graph.insert_before(graph[0], builder.nodes)
        for use in uses:
            use.node.replace_input_with(use.idx, changed)
        for index, output in enumerate(graph.outputs):
            if output is value:
                name, value.name = value.name, f"{value.name}_before"
                changed.name, changed.type, changed.shape = name, value.type, value.shape
                graph.outputs[index] = changed

    @cached_property
    def size_values(self) -> list[ir.Value]:
        """Values that are computed from sizes alone: shapes, positions, masks, grids."""
        kinds: dict[ir.Value, str] = {}
        for node in self.model.graph:
            inputs = {kinds.get(value, _kind(value)) for value in node.inputs if value is not None}
            kind = next((kind for kind in ("data", "size") if kind in inputs), "constant")
            if node.op_type in _SHAPE_READERS and kind == "data":
                kind = "size"
            if any(
                attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()
            ):
                kind = "data"
            kinds |= dict.fromkeys(node.outputs, kind)
        return [value for value, kind in kinds.items() if kind == "size" and value.uses()]


def _set_constant(value: ir.Value, array: Array) -> None:
    """Replace an initializer's values; its dtype and shape stay."""
    value.const_value = ir.Tensor(np.ascontiguousarray(array), name=value.name)


def _adds(node: ir.Node, index: int) -> bool:
    """Return whether a node adds the input of this index."""
    if node.op_type in _BIASED:
        return index == len(node.inputs) - 1 and index >= 2
    return node.op_type == "Add" or (node.op_type == "LayerNormalization" and index == 2)


def _kind(value: ir.Value) -> str:
    return "constant" if value.const_value is not None else "data"


@dataclass
class Builder:
    """New nodes, which read `value` and constants."""

    graph: Graph
    value: ir.Value
    nodes: list[ir.Node] = field(default_factory=list)

    def op(self, kind: str, *inputs: ir.Value | Array | None, **attributes: Any) -> ir.Value:
        """Add a node with one output; arrays become constants."""
        values = [
            self.graph.add_constant(entry) if isinstance(entry, np.ndarray) else entry
            for entry in inputs
        ]
        self.graph._count += 1
        node = ir.node(kind, values, attributes or None)
        node.outputs[0].name = f"mutant_value_{self.graph._count}"
        self.nodes.append(node)
        return node.outputs[0]


def dtype_of(value: ir.Value) -> np.dtype[Any] | None:
    """Return the element type of a value, if the graph says it."""
    return None if value.dtype is None else np.dtype(value.dtype.numpy())


def is_float(value: ir.Value) -> bool:
    """Return whether a value is one of float32 or float16."""
    return value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16)
