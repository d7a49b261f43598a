"""Attention in a graph, in each of the ways that exporters write it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.graph.flow.follow import MASKED, makers

if TYPE_CHECKING:
    import onnx_ir as ir

FUSED = (
    "Attention",
    "MultiHeadAttention",
    "DecoderMaskedMultiHeadAttention",
    "GroupQueryAttention",
    "PackedAttention",
    "PackedMultiHeadAttention",
    "QAttention",
)
"""Operators that are a whole attention: ONNX's own and ONNX Runtime's."""
_PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", "Einsum")


def has_attention(model: ir.Model) -> bool:
    """Return whether a graph weighs values by a softmax, as transformers do."""
    fused = any(node.op_type in FUSED for node in model.graph)
    return fused or bool(weighted_sums(model))


def weighted_sums(model: ir.Model) -> list[ir.Node]:
    """Return the products of computed values by the result of a softmax, masked or moved."""
    return [node for node in model.graph if node.op_type in _PRODUCTS and _weighs(node)]


def _weighs(product: ir.Node) -> bool:
    """Return whether a product has two computed factors, and a softmax computes one of them."""
    factors = [makers(value, MASKED) for value in product.inputs[:2]]
    if not all(factors):
        return False
    return any(_is_softmax(node) for factor in factors for node in factor)


def _is_softmax(node: ir.Node) -> bool:
    """Return whether a node computes a softmax, as one operator or as exponentials over their sum."""
    if node.op_type in ("Softmax", "BiasSoftmax"):
        return True
    if node.op_type != "Div":
        return False
    exponentials = {maker for maker in makers(node.inputs[0], MASKED) if maker.op_type == "Exp"}
    sums = [maker for maker in makers(node.inputs[1], MASKED) if maker.op_type == "ReduceSum"]
    return any(exponentials & set(makers(total.inputs[0], MASKED)) for total in sums)
