"""Contents of an ONNX graph: its nodes by operator, and the precision of its layers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from converters.graph.flow.follow import MOVERS

if TYPE_CHECKING:
    import onnx

_COMPUTE = {
    "Conv",
    "ConvTranspose",
    "MatMul",
    "Gemm",
    "Einsum",
    "ConvInteger",
    "MatMulInteger",
    "LSTM",
    "GRU",
    "RNN",
    # ONNX Runtime's own, fused from those above.
    "FusedConv",
    "FusedMatMul",
    "FusedGemm",
    "Attention",
}
_COMPUTE_IN_INTEGERS = {
    "QLinearConv",
    "QLinearMatMul",
    "QGemm",
    "QAttention",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
}


def count_nodes(path: Path, fused: bool = False) -> dict[str, dict[str, int]]:
    """Count nodes by operator, and computing nodes by the precision of their weight.

    `fused`: an engine has already fused its integer operators, so that the other nodes compute in
    float.
    """
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    types = _element_types(graph)
    operators, compute = Counter[str](), Counter[str]()
    integers = set[str]() if fused else _quantized(graph, types)
    for node in graph.node:
        operators[node.op_type] += 1
        precision = _precision(node, types, integers)
        if precision is not None:
            compute[precision] += 1
    return {"operators": dict(operators.most_common()), "compute_layers": dict(compute)}


def _precision(node: onnx.NodeProto, types: dict[str, str], integers: set[str]) -> str | None:
    """Return the precision that a node computes in, or None if it is no computing node."""
    if node.op_type == "MatMulNBits":
        for attribute in node.attribute:
            if attribute.name == "bits":
                return f"int{attribute.i}"
        return "unknown"
    if node.op_type in _COMPUTE_IN_INTEGERS:
        return "int8"
    if node.op_type not in _COMPUTE:
        return None
    # An engine computes with integers if both sides are dequantized; a float weight makes it float.
    factors = node.input[:2]
    if factors and integers.issuperset(factors):
        return "int8"
    for name in (*node.input[1::-1], node.output[0]):
        if name in types:
            return types[name]
    return "unknown"


def _quantized(graph: onnx.GraphProto, types: dict[str, str]) -> set[str]:
    """Return the results of DequantizeLinear nodes, also after operators that only move them."""
    quantized: set[str] = set()
    for node in graph.node:
        dequantizes = (
            node.op_type == "DequantizeLinear" and types.get(node.input[0], "int8") == "int8"
        )
        if dequantizes or (node.op_type in MOVERS and node.input[0] in quantized):
            quantized.add(node.output[0])
    return quantized


def _element_types(graph: onnx.GraphProto) -> dict[str, str]:
    import onnx

    short = {
        onnx.TensorProto.FLOAT: "fp32",
        onnx.TensorProto.FLOAT16: "fp16",
        onnx.TensorProto.BFLOAT16: "bf16",
        onnx.TensorProto.DOUBLE: "fp64",
        onnx.TensorProto.INT8: "int8",
        onnx.TensorProto.UINT8: "int8",
    }
    types = {tensor.name: short.get(tensor.data_type, "other") for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        types.setdefault(value.name, short.get(value.type.tensor_type.elem_type, "other"))
    return types
