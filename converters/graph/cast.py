"""Cast a float32 ONNX graph to float16 or bfloat16; its inputs and outputs stay float32.

Everything becomes low precision first, then islands of float32 are restored for operators that need
them. ONNX's own operator schemas decide which do, not a list kept here: Resize's scales and
NonMaxSuppression, for example, are float32 by definition.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from converters.errors import ExportError

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx.defs import OpSchema

Precision = Literal["fp16", "bf16"]


@dataclass
class CastReport:
    """Result of a cast: nodes that compute in low precision, and operators that stay float32."""

    converted: int = 0
    kept: dict[str, int] = field(default_factory=dict)


def cast_graph(model: ir.Model, precision: Precision, keep: Collection[str] = ()) -> CastReport:
    """Cast `model` in place.

    Args:
        model: a float32 model whose values have types (run shape inference first).
        precision: the precision of all operators whose schema allows it; Conv allows bf16 from
            opset 22 on.
        keep: names of nodes that stay float32; no value is rounded between two of them.

    Raises:
        ExportError: the graph has control flow, whose bodies read outer values by their old type.
    """
    import onnx_ir as ir

    if any(graph is not model.graph for graph in model.graph.subgraphs()):
        raise ExportError(
            f"a graph with control flow (If, Loop, Scan) cannot be cast to {precision}"
        )
    low = ir.DataType.FLOAT16 if precision == "fp16" else ir.DataType.BFLOAT16
    return _Cast(model, low, keep).run()


class _Cast:
    def __init__(self, model: ir.Model, low: ir.DataType, keep: Collection[str]) -> None:
        import onnx_ir as ir

        self.graph, self.low, self.high = model.graph, low, ir.DataType.FLOAT
        self.opsets, self.keep, self.report = dict(model.opset_imports), keep, CastReport()
        self.exact: dict[ir.Value, ir.TensorProtocol] = {}  # constants as they were
        # Low values, and the same values in float32 if the graph has them.
        self.raised: dict[ir.Value, ir.Value] = {}
        self.casts = 0
        self.type_name = "tensor(float16)" if low == ir.DataType.FLOAT16 else "tensor(bfloat16)"

    def run(self) -> CastReport:
        nodes = list(self.graph)
        # Decide before anything changes: which nodes stay float32, and which inputs of the others.
        plan = [self._high_inputs(node) for node in nodes]
        inputs = [value for value in self.graph.inputs if value.dtype == self.high]
        outputs = self._indices(self.graph.outputs, self.high)
        self._lower(nodes)
        for value in inputs:
            self._cast_input(value)
        for node, high in zip(nodes, plan, strict=True):
            if high is not None:
                self._lower_attributes(node)
        for node, high in zip(nodes, plan, strict=True):
            if high is None:
                self._island(node)
            else:
                self._raise_inputs(node, high)
        for index in outputs:
            self._cast_output(index)
        for value in self.raised:
            if not value.uses():
                self._drop(value)
        return self.report

    def _drop(self, value: ir.Value) -> None:
        """Remove a low value that nothing reads: all former readers read it in float32."""
        self.graph.initializers.pop(str(value.name), None)  # none if a node computes it
        producer = value.producer()
        if producer is not None and producer.op_type == "Cast" and not value.is_graph_output():
            self.graph.remove(producer, safe=True)

    def _high_inputs(self, node: ir.Node) -> list[int] | None:
        """Return the indices of inputs that must stay float32; None if the whole node must."""
        inputs = self._indices(node.inputs, self.high)
        outputs = self._indices(node.outputs, self.high)
        if not inputs and not outputs:
            return []
        schema = self._schema(node)
        able = schema is not None and all(
            self._allows(schema, schema.outputs, index) for index in outputs
        )
        if schema is None or not able or node.name in self.keep:
            self.report.kept[node.op_type] = self.report.kept.get(node.op_type, 0) + 1
            return None
        self.report.converted += 1
        return [index for index in inputs if not self._allows(schema, schema.inputs, index)]

    def _indices(self, values: Sequence[ir.Value | None], dtype: ir.DataType) -> list[int]:
        """Return the indices of the values of a type."""
        indices = []
        for index, value in enumerate(values):
            if value is not None and value.dtype == dtype:
                indices.append(index)
        return indices

    def _schema(self, node: ir.Node) -> OpSchema | None:
        from onnx import defs

        try:
            return defs.get_schema(node.op_type, self.opsets.get(node.domain, 1), node.domain)
        except defs.SchemaError:
            return None

    def _allows(
        self, schema: OpSchema, formals: Sequence[OpSchema.FormalParameter], index: int
    ) -> bool:
        """Whether formal parameter at `index` may have the low type; the last may be variadic."""
        kind = formals[min(index, len(formals) - 1)].type_str
        for constraint in schema.type_constraints:
            if constraint.type_param_str == kind:
                return self.type_name in constraint.allowed_type_strs
        return kind == self.type_name

    def _lower(self, nodes: Sequence[ir.Node]) -> None:
        """Give all float initializers and float outputs of nodes the low type."""
        for value in self.graph.initializers.values():
            if value.dtype == self.high and value.const_value is not None:
                self.exact[value] = value.const_value
                value.const_value = self._lowered(value.const_value, value.name)
                value.dtype = self.low
        for node in nodes:
            for value in node.outputs:
                if value.dtype == self.high:
                    value.dtype = self.low

    def _lower_attributes(self, node: ir.Node) -> None:
        """Give the output type in a node's attributes the low type: a Cast's target, a constant."""
        import onnx_ir as ir

        for key in ("to", "dtype"):
            attribute = node.attributes.get(key)
            if attribute is not None and attribute.as_int() == int(self.high):
                node.attributes[key] = ir.AttrInt64(key, int(self.low))
        tensor = _held(node)
        if tensor is None or tensor.dtype != self.high:
            return
        if node.op_type == "Constant":
            self.exact[node.outputs[0]] = tensor
        for key in ("value_float", "value_floats"):
            node.attributes.pop(key, None)
        node.attributes["value"] = ir.AttrTensor("value", self._lowered(tensor, tensor.name))

    def _lowered(self, tensor: ir.TensorProtocol, name: str | None) -> ir.TensorProtocol:
        """Cast a tensor to the low type; clip values beyond its range (masks of -3e38)."""
        import ml_dtypes
        import numpy as np
        import onnx_ir as ir

        kind: Any = self.low.numpy()
        limit = float(ml_dtypes.finfo(kind).max)  # type: ignore[no-untyped-call]
        lowered = np.clip(tensor.numpy(), -limit, limit).astype(kind)
        return ir.Tensor(lowered, dtype=self.low, name=name)

    def _island(self, node: ir.Node) -> None:
        """Keep a node float32: cast its low inputs up and its outputs down."""
        self._raise_inputs(node, self._indices(node.inputs, self.low))
        for value in node.outputs:
            if value.dtype == self.low:
                uses = _uses(value)
                value.dtype = self.high
                lowered = self._cast_after(node, value, self.low)
                self.raised[lowered] = value  # for the next island
                for user, index in uses:
                    user.replace_input_with(index, lowered)

    def _raise_inputs(self, node: ir.Node, indices: Sequence[int]) -> None:
        for index in indices:
            value = node.inputs[index]
            assert value is not None
            if value in self.exact or value in self.raised:
                node.replace_input_with(index, self._exact_copy(value))
                continue
            cast = self._cast_node(value, self.high)
            self.graph.insert_before(node, cast)
            node.replace_input_with(index, cast.outputs[0])
            self.raised[value] = cast.outputs[0]

    def _exact_copy(self, value: ir.Value) -> ir.Value:
        """Return a constant in float32, never rounded: Resize's scales of 1.1 determine a shape."""
        import onnx_ir as ir

        if value not in self.raised:
            name = f"{value.name}_exact"
            tensor = ir.Tensor(self.exact[value].numpy(), name=name)
            copy = ir.Value(
                name=name, shape=value.shape, type=ir.TensorType(self.high), const_value=tensor
            )
            self.graph.register_initializer(copy)
            self.raised[value] = copy
        return self.raised[value]

    def _cast_after(self, node: ir.Node, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        cast = self._cast_node(value, dtype)
        self.graph.insert_after(node, cast)
        return cast.outputs[0]

    def _cast_input(self, value: ir.Value) -> None:
        uses = _uses(value)
        if not uses:
            return
        cast = self._cast_node(value, self.low)
        self.raised[cast.outputs[0]] = value
        self.graph.insert_before(self.graph[0], cast)
        for user, index in uses:
            user.replace_input_with(index, cast.outputs[0])

    def _cast_output(self, index: int) -> None:
        """Cast a graph output up; the new value takes its name."""
        value = self.graph.outputs[index]
        producer = value.producer()
        if producer is None or value.dtype == self.high:
            return  # an input or an island's output passed through
        name, value.name = value.name, f"{value.name}_low"
        cast = self._cast_node(value, self.high)
        cast.outputs[0].name = name
        self.graph.insert_after(producer, cast)
        self.graph.outputs[index] = cast.outputs[0]

    def _cast_node(self, value: ir.Value, dtype: ir.DataType) -> ir.Node:
        import onnx_ir as ir

        self.casts += 1
        name = f"{value.name}_{dtype.name.lower()}_{self.casts}"
        result = ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype))
        return ir.node("Cast", [value], {"to": int(dtype)}, outputs=[result], name=f"cast_{name}")


def _uses(value: ir.Value) -> list[tuple[ir.Node, int]]:
    """Return the nodes that read a value, and at which input."""
    return [(use.node, use.idx) for use in value.uses()]


def _held(node: ir.Node) -> ir.TensorProtocol | None:
    """Return the tensor in a node's attributes (Constant, ConstantOfShape) in any notation."""
    import numpy as np
    import onnx_ir as ir

    for key, attribute in node.attributes.items():
        if key == "value" and attribute.type == ir.AttributeType.TENSOR:
            return attribute.as_tensor()
        if key == "value_float":
            return ir.Tensor(np.asarray(attribute.as_float(), np.float32))
        if key == "value_floats":
            return ir.Tensor(np.asarray(attribute.as_floats(), np.float32))
    return None
