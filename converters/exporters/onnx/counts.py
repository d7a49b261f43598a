"""What an ONNX graph consists of: its nodes by operator, and what its layers compute in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from converters.graph.qdq import MOVERS

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
    # ONNX Runtime's own, made of those above.
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
    """Nodes by operator, and computing nodes (convolutions, matrix products) by their weight's precision.

    `fused`: an engine has made its own integer operators of what it can, so that the rest computes in float.
    """
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    types = _element_types(graph)
    operators, compute = Counter(node.op_type for node in graph.node), Counter[str]()
    integers = {} if fused else _quantized(graph, types)
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            compute[next((f"int{one.i}" for one in node.attribute if one.name == "bits"), "unknown")] += 1
        elif node.op_type in _COMPUTE_IN_INTEGERS:
            compute["int8"] += 1
        elif node.op_type in _COMPUTE:
            # An engine computes with integers where both sides are dequantized; a float weight makes it float.
            both = [integers.get(name) for name in node.input[:2]]
            known = [types[name] for name in (*node.input[1::-1], node.output[0]) if name in types]
            compute[next((one for one in both if one and all(both)), None) or next(iter(known), "unknown")] += 1
    return {"operators": dict(operators.most_common()), "compute_layers": dict(compute)}


def _quantized(graph: onnx.GraphProto, types: dict[str, str]) -> dict[str, str]:
    """Values that come out of a DequantizeLinear, also through operators that only move them."""
    found: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and types.get(node.input[0], "int8") == "int8":
            found[node.output[0]] = "int8"
        elif node.op_type in MOVERS and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


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
