"""What every rewrite of a QDQ graph needs to ask: pairs, layers, their scales."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray[Any, Any]

COMPUTE = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Layers whose weights are quantized."""

MOVERS = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "MaxPool")
"""Operators that move or choose values and change none: a dequantization is the same before and after them."""


@dataclass(frozen=True)
class GraphLayer:
    """A computing node with the dequantizations of its input and of its weight; None where one is float.

    Attributes:
        node: the convolution or matrix product.
        activation: DequantizeLinear of its first input, also from behind operators that only move values.
        weight: DequantizeLinear of its constant second input.
    """

    node: ir.Node
    activation: ir.Node | None
    weight: ir.Node | None

    @property
    def quantized(self) -> bool:
        """Whether an engine can compute it with integers."""
        return self.activation is not None and self.weight is not None


def layers(model: ir.Model) -> Iterator[GraphLayer]:
    """The computing nodes of the main graph, in its order."""
    for node in model.graph:
        if node.op_type in COMPUTE and node.domain in ("", "ai.onnx"):
            weight = dequantizer(node.inputs[1])
            yield GraphLayer(node, _behind_movers(node.inputs[0]), weight)


def float_products(model: ir.Model) -> list[str]:
    """The names of the products of two computed values that are not quantized.

    They have no weights, and quantizers leave some of them float: NNCF those that follow a softmax.
    """
    return [str(one.node.name) for one in layers(model) if not one.quantized and not _is_weight(one.node.inputs[1])]


def left_float(graph: Path) -> int:
    """How many of them the ONNX file `graph` has."""
    import onnx_ir as ir

    return len(float_products(ir.load(str(graph))))


def _is_weight(value: ir.Value | None) -> bool:
    """Whether a value is a constant, plain or quantized."""
    made = value.producer() if value is not None else None
    while made is not None and made.op_type in (*MOVERS, "QuantizeLinear", "DequantizeLinear"):
        value = made.inputs[0]
        made = value.producer() if value is not None else None
    return constant(value) is not None


def dequantizer(value: ir.Value | None) -> ir.Node | None:
    """The DequantizeLinear that makes a value."""
    made = value.producer() if value is not None else None
    return made if made is not None and made.op_type == "DequantizeLinear" else None


def _behind_movers(value: ir.Value | None) -> ir.Node | None:
    made = value.producer() if value is not None else None
    while made is not None and made.op_type in MOVERS:
        value = made.inputs[0]
        made = value.producer() if value is not None else None
    return dequantizer(value)


def quantizers(model: ir.Model) -> list[ir.Node]:
    """The QuantizeLinear nodes of values that are computed, not constant."""
    return [node for node in model.graph if node.op_type == "QuantizeLinear" and constant(node.inputs[0]) is None]


def constant(value: ir.Value | None) -> Array | None:
    """What a value always is; None where it is computed."""
    import onnx_ir as ir

    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())


def scale_of(node: ir.Node) -> Array:
    """The scale of a QuantizeLinear or DequantizeLinear."""
    scale = constant(node.inputs[1])
    assert scale is not None  # Burnish quantizes with constant scales only
    return scale


def zero_point_of(node: ir.Node) -> Array:
    """Its zero point; that of a missing one is 0, in uint8 as ONNX says."""
    found = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    return np.zeros((), np.uint8) if found is None else found


def new_constant(model: ir.Model, name: str, array: Array) -> ir.Value:
    """An initializer; the one of that name where the graph has it already."""
    import onnx_ir as ir

    if name in model.graph.initializers:
        return model.graph.initializers[name]
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.register_initializer(value)
    return value


def users(value: ir.Value) -> list[ir.Node]:
    """The nodes that read a value."""
    return [use.node for use in value.uses()]


def drop_unused(model: ir.Model) -> None:
    """Remove nodes and initializers that nothing reads any more."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(model)
