"""Queries of a QDQ graph: the layers that are quantized, and the products without a weight."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
from onnx import TensorProto, helper, numpy_helper

from converters.graph.qdq import float_products, layers

_CONSTANTS = {
    "step": np.float32(0.1),
    "zero": np.int8(0),
    "codes": np.ones((4, 4), np.int8),
    "weight": np.ones((4, 4), np.float32),
}


def graph(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """Make a graph from x, of 4x4, to y; it has a quantized and a float weight."""
    proto_graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in _CONSTANTS.items()],
    )
    return helper.make_model(
        proto_graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )


PAIR = [
    helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
    helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
]
WEIGHT = helper.make_node("DequantizeLinear", ["codes", "step", "zero"], ["w"])


def product(left: str, right: str) -> onnx.NodeProto:
    return helper.make_node("MatMul", [left, right], ["y"], name="product")


def products(*nodes: onnx.NodeProto) -> list[str]:
    return float_products(onnx_ir.from_proto(graph(*nodes)))


def test_a_product_of_computed_values_has_no_weight_that_could_be_quantized() -> None:
    softmax = helper.make_node("Softmax", ["x"], ["s"])
    assert products(softmax, product("s", "x")) == ["product"]
    assert products(*PAIR, softmax, product("s", "d")) == ["product"], (
        "one side alone makes it no integer product"
    )


def test_one_that_is_quantized_or_has_a_weight_is_none_of_them() -> None:
    turned = helper.make_node("Transpose", ["w"], ["t"])
    assert products(*PAIR, product("d", "d")) == []
    assert products(*PAIR, WEIGHT, product("d", "w")) == []
    assert products(*PAIR, product("d", "weight")) == [], "it could be quantized, and is not"
    assert products(*PAIR, WEIGHT, turned, product("x", "t")) == []


def test_the_largest_of_dequantized_values_is_one_of_them() -> None:
    shape = helper.make_node(
        "Constant", [], ["shape"], value=numpy_helper.from_array(np.array([1, 1, 4, 4]))
    )
    for pool, quantized in (("MaxPool", True), ("AveragePool", False)):
        nodes = [
            *PAIR,
            shape,
            helper.make_node("Reshape", ["d", "shape"], ["r"]),
            helper.make_node(pool, ["r"], ["p"], kernel_shape=[1, 1]),
            WEIGHT,
            product("p", "w"),
        ]
        (layer,) = layers(onnx_ir.from_proto(graph(*nodes)))
        assert layer.quantized is quantized
