"""The dataflow is followed through operators that move values, and through no others."""

from __future__ import annotations

import numpy as np
import onnx_ir
from onnx import TensorProto, helper, numpy_helper

from converters.graph.flow.follow import MASKED, MOVERS, PASSED_ON, before, makers, sources

NODE = helper.make_node
GRAPH = helper.make_graph(
    [
        NODE("Relu", ["x"], ["a"], "first"),
        NODE("Sigmoid", ["x"], ["b"], "second"),
        NODE("Transpose", ["a"], ["turned"], perm=[1, 0]),
        NODE("Concat", ["turned", "b", "c"], ["joined"], axis=0),
        NODE("Split", ["joined"], ["left", "right"], axis=0, num_outputs=2),
        NODE("Where", ["mask", "left", "c"], ["masked"]),
        NODE("Add", ["masked", "right"], ["y"], "last"),
    ],
    "graph",
    [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4]),
        helper.make_tensor_value_info("mask", TensorProto.BOOL, [1]),
    ],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    [numpy_helper.from_array(np.ones((4, 4), np.float32), "c")],
)
MODEL = onnx_ir.from_proto(
    helper.make_model(GRAPH, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
)
VALUES = {str(value.name): value for node in MODEL.graph for value in node.outputs}


def names(values: object) -> set[str]:
    return {str(value.name) for value in values}  # type: ignore[attr-defined]


def test_all_parts_that_a_value_holds_are_found() -> None:
    assert names(sources(VALUES["left"])) == {"a", "b", "c"}
    assert names(makers(VALUES["left"])) == {"first", "second"}, "a constant has no maker"


def test_a_mask_is_followed_on_request() -> None:
    assert names(sources(VALUES["masked"])) == {"masked"}
    assert names(sources(VALUES["masked"], MASKED)) == {"a", "b", "c"}


def test_an_operator_that_computes_ends_the_way() -> None:
    assert names(sources(VALUES["y"], MASKED)) == {"y"}
    assert names(makers(VALUES["y"])) == {"last"}


def test_a_chain_ends_before_an_operator_of_several_inputs() -> None:
    turned = before(VALUES["turned"])
    assert turned is VALUES["a"]
    assert before(VALUES["joined"]) is VALUES["joined"]
    assert before(None) is None


def test_each_set_holds_the_one_before() -> None:
    assert set(MOVERS) < set(PASSED_ON) < set(MASKED)
