"""The layers of an ONNX graph that multiply and add: their kind, their weight, how much they do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.graph.flow.follow import before, sources
from converters.graph.names import module_path
from runtimes.precision.table import Kind

if TYPE_CHECKING:
    import onnx_ir as ir

_CONVOLUTIONS = {
    "Conv": 1,
    "ConvTranspose": 1,
    "FusedConv": 1,
    "ConvInteger": 1,
    "QLinearConv": 3,
}
_PRODUCTS = {
    "MatMul": 1,
    "Gemm": 1,
    "FusedMatMul": 1,
    "FusedGemm": 1,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
    "QLinearMatMul": 3,
    "QGemm": 3,
    "MatMulNBits": 1,
    "Einsum": 1,
}
_RECURRENT: Mapping[str, Kind] = {
    "LSTM": "lstm",
    "DynamicQuantizeLSTM": "lstm",
    "GRU": "recurrent",
    "RNN": "recurrent",
}
_ATTENTION = ("Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention")
_QUANTIZES = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "Identity")


@dataclass(frozen=True)
class GraphWork:
    """A computing node.

    Attributes:
        node: the operator.
        kind: of the layer.
        weight: index of its second factor among its inputs; None if it has none.
        multiply_adds: of one run; None if a size is unknown.
    """

    node: ir.Node
    kind: Kind
    weight: int | None
    multiply_adds: int | None

    @property
    def layer(self) -> str:
        """The module path; the node's name if the graph does not have it."""
        return module_path(self.node.metadata_props) or str(self.node.name)


def computing_nodes(model: ir.Model) -> Iterator[GraphWork]:
    """Yield the computing nodes of the main graph."""
    for node in model.graph:
        kind = node.op_type
        if kind in _CONVOLUTIONS:
            index = _CONVOLUTIONS[kind]
            yield GraphWork(node, "convolution", index, _convolution(node, index))
        elif kind in _PRODUCTS:
            index = _PRODUCTS[kind]
            # Integer kernels take constants; a float product may have computed factors only.
            constant = any(is_constant(value) for value in (node.inputs[0], _input(node, index)))
            amount = _product(node, index)
            yield GraphWork(node, "linear" if constant else "product", index, amount)
        elif kind in _RECURRENT:
            yield GraphWork(node, _RECURRENT[kind], 1, _recurrent(node))
        elif kind in _ATTENTION:
            yield GraphWork(node, "product", None, _attention(node))


def is_constant(value: ir.Value | None) -> bool:
    """Return whether a value is a constant, also quantized or moved."""
    import onnx_ir as ir

    if value is None:
        return False
    parts = list(sources(before(value, _QUANTIZES)))
    if len(parts) == 1 and parts[0] is not value:
        return is_constant(parts[0])
    return all(ir.convenience.get_const_tensor(part) is not None for part in parts)


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _convolution(node: ir.Node, index: int) -> int | None:
    """Each output (of a transposed one: each input) meets the weights of one channel."""
    weight = _shape(_input(node, index))
    transposed = node.op_type == "ConvTranspose"
    positions = _shape(node.inputs[0] if transposed else node.outputs[0])
    return _times(positions, weight[1:] if weight else None)


def _product(node: ir.Node, index: int) -> int | None:
    """Each output is a sum over the inner dimension."""
    if node.op_type == "Einsum":
        return _einsum(node)
    if node.op_type == "MatMulNBits":
        return _times(_shape(node.inputs[0]), (node.attributes["N"].as_int(),))
    left, right = _shape(node.inputs[0]), _shape(_input(node, index))
    if right and _number(node, "transB"):
        right = (*right[:-2], right[-1], right[-2])
    if left and right and len(left) > 1 and len(right) == 2 and not _number(node, "transA"):
        return _times(left, right[1:])
    inner = left[0 if _number(node, "transA") else -1] if left else None
    return _times(_shape(node.outputs[0]), None if inner is None else (inner,))


def _recurrent(node: ir.Node) -> int | None:
    """Each step of each row meets all weights of both matrices."""
    rows = _shape(node.inputs[0])
    matrices = [_times(_shape(node.inputs[index]), ()) for index in (1, 2)]
    if rows is None or None in matrices:
        return None
    return math.prod(rows[:2]) * sum(count for count in matrices if count is not None)


def _attention(node: ir.Node) -> int | None:
    """Both products of each head."""
    shapes = [_shape(_input(node, index)) for index in range(3)]
    query, key, value = shapes
    if query is None or key is None or value is None or {len(query), len(key)} != {4}:
        return None
    return math.prod(query[:3]) * key[2] * (query[3] + value[3])


def _einsum(node: ir.Node) -> int | None:
    """All indices together."""
    terms = node.attributes["equation"].as_string().replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, value in zip(terms, node.inputs, strict=False):
        shape = _shape(value)
        if shape is None or len(shape) != len(term) or "." in term:
            return None
        sizes |= dict(zip(term, shape, strict=True))
    return math.prod(sizes.values())


def _shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return the sizes of a value; also those before its quantization, which keeps them."""
    while value is not None:
        sizes = () if value.shape is None else tuple(value.shape)
        whole = tuple(size for size in sizes if isinstance(size, int))
        if value.shape is not None and len(whole) == len(sizes):
            return whole
        producer = value.producer()
        if producer is None or producer.op_type not in _QUANTIZES:
            return None
        value = producer.inputs[0]
    return None


def _number(node: ir.Node, name: str) -> int:
    attribute = node.attributes.get(name)
    return 0 if attribute is None else attribute.as_int()


def _times(first: tuple[int, ...] | None, second: tuple[int, ...] | None) -> int | None:
    return None if first is None or second is None else math.prod(first) * math.prod(second)
