"""Queries of a QDQ graph for its rewrites: pairs, layers, their scales."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.graph.flow.follow import MOVERS, before

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray[Any, Any]

COMPUTE = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Layers whose weights are quantized."""


@dataclass(frozen=True)
class GraphLayer:
    """A computing node with the dequantizations of its input and its weight; None for a float one.

    Attributes:
        node: the convolution or matrix product.
        activation: DequantizeLinear of its first input; it may precede operators that move values.
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
    """Yield the computing nodes of the main graph, in its order."""
    for node in model.graph:
        if node.op_type in COMPUTE and node.domain in ("", "ai.onnx"):
            activation = dequantizer(before(node.inputs[0]))
            yield GraphLayer(node, activation, dequantizer(node.inputs[1]))


def float_products(model: ir.Model) -> list[str]:
    """Return the names of the products of two computed values that are not quantized.

    They have no weights, and quantizers leave some of them float: NNCF those that follow a softmax.
    """
    names = []
    for layer in layers(model):
        if not layer.quantized and not _is_weight(layer.node.inputs[1]):
            names.append(str(layer.node.name))
    return names


def _is_weight(value: ir.Value | None) -> bool:
    """Whether a value is a constant, plain or quantized."""
    return constant(before(value, (*MOVERS, "QuantizeLinear", "DequantizeLinear"))) is not None


def is_dequantized(value: ir.Value | None) -> bool:
    """Whether a value comes from a DequantizeLinear, also before operators that only move it."""
    return dequantizer(before(value)) is not None


def dequantizer(value: ir.Value | None) -> ir.Node | None:
    """Return the DequantizeLinear that computes a value."""
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type != "DequantizeLinear":
        return None
    return producer


def quantizers(model: ir.Model) -> list[ir.Node]:
    """Return the QuantizeLinear nodes of values that are computed, not constant."""
    nodes = [node for node in model.graph if node.op_type == "QuantizeLinear"]
    return [node for node in nodes if constant(node.inputs[0]) is None]


def constant(value: ir.Value | None) -> Array | None:
    """Return the constant that a value is; None if it is computed."""
    import onnx_ir as ir

    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())


def scale_of(node: ir.Node) -> Array:
    """Return the scale of a QuantizeLinear or DequantizeLinear."""
    scale = constant(node.inputs[1])
    assert scale is not None  # Burnish quantizes with constant scales only
    return scale


def zero_point_of(node: ir.Node) -> Array:
    """Return the zero point of such a node; a missing one is 0, in uint8 as ONNX says."""
    zero_point = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    return np.zeros((), np.uint8) if zero_point is None else zero_point


def new_constant(model: ir.Model, name: str, array: Array) -> ir.Value:
    """Add an initializer; return the existing one if the graph has one of that name."""
    import onnx_ir as ir

    if name in model.graph.initializers:
        return model.graph.initializers[name]
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    model.graph.register_initializer(value)
    return value


def users(value: ir.Value) -> list[ir.Node]:
    """Return the nodes that read a value."""
    return [use.node for use in value.uses()]


def drop_unused(model: ir.Model) -> None:
    """Remove nodes and initializers that nothing reads any more."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(model)
