"""An epsilon that float16 would turn into zero stays what it is."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.graph.vanish import vanishing


def normalize(epsilon: float, as_node: bool = False) -> onnx_ir.Model:
    """x over the norm of x, at least `epsilon`; then a layer that is no part of that."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in ("x", "y")]
    small = numpy_helper.from_array(np.asarray([epsilon], np.float32), "small")
    nodes = [
        helper.make_node("ReduceL2", ["x"], ["norm"], name="norm", keepdims=1),
        helper.make_node("Max", ["norm", "small"], ["at_least"], name="at_least"),
        helper.make_node("Div", ["x", "at_least"], ["unit"], name="divide"),
        helper.make_node("Relu", ["unit"], ["y"], name="after"),
    ]
    if as_node:
        nodes.insert(0, helper.make_node("Constant", [], ["small"], name="held", value=small))
    initializers = [] if as_node else [small]
    proto = helper.make_model(
        helper.make_graph(nodes, "graph", ends[:1], ends[1:], initializers),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    return onnx_ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))


@pytest.mark.parametrize("as_node", [False, True])
def test_nodes_from_the_constant_to_the_division_are_kept(as_node: bool) -> None:
    assert vanishing(normalize(1e-12, as_node)) == {"at_least", "divide"}


@pytest.mark.parametrize("epsilon", [0.0, 1e-3, 1.0])
def test_constants_that_float16_holds_keep_nothing(epsilon: float) -> None:
    assert vanishing(normalize(epsilon)) == set()
