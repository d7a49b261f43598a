"""Casting a float32 graph: the inner precision changes, the inputs and outputs do not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from converters.errors import ExportError
from converters.graph.cast import CastReport, Precision, cast_graph

SHAPE = [2, 4, 6, 6]
FLOAT, HALF, BF16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16

CONSTANTS = {
    "weight": np.random.default_rng(0).standard_normal((4, 4, 3, 3)).astype(np.float32) / 6,
    "scales": np.array([1, 1, 1, 1], np.float32),
    "half": np.array(0.5, np.float32),
    "zero": np.array(0, np.float32),
    "six": np.array(6, np.float32),
    "four": np.array(4, np.float32),
    "one": np.array(1, np.float32),
    "axes": np.array([2, 3], np.int64),
    "column": np.array([1, 4, 1, 1], np.int64),
    "mask": np.array([[[[-3.0e38]], [[0]], [[0]], [[0]]]], np.float32),
}
"""Initializers that the random graphs below share."""


def model(
    nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], opset: int = 20
) -> onnx.ModelProto:
    used = {name for node in nodes for name in node.input}
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", FLOAT, SHAPE)],
            [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
            [
                numpy_helper.from_array(value, name)
                for name, value in CONSTANTS.items()
                if name in used
            ],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=9,
    )
    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def cast(
    proto: onnx.ModelProto, precision: Precision = "fp16", keep: Collection[str] = ()
) -> tuple[onnx.ModelProto, CastReport]:
    graph = onnx_ir.from_proto(proto)
    report = cast_graph(graph, precision, keep)
    result = onnx_ir.to_proto(graph)
    onnx.checker.check_model(result, full_check=True)
    return result, report


def outside(proto: onnx.ModelProto) -> list[tuple[str, int, list[int]]]:
    """Return the names, types and shapes of the inputs and outputs."""
    signature = []
    for value in (*proto.graph.input, *proto.graph.output):
        tensor = value.type.tensor_type
        shape = [dim.dim_value for dim in tensor.shape.dim]
        signature.append((value.name, tensor.elem_type, shape))
    return signature


def run(proto: onnx.ModelProto) -> list[np.ndarray[Any, Any]]:
    x = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(proto.SerializeToString(), options).run(None, {"x": x})


def types_of(proto: onnx.ModelProto, operator: str) -> list[int]:
    """Return the element types of the first outputs of all nodes of an operator."""
    inferred = onnx.shape_inference.infer_shapes(proto)
    values = [*inferred.graph.value_info, *inferred.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return [types[node.output[0]] for node in proto.graph.node if node.op_type == operator]


def node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, [output], name=f"{operator}_{output}", **attributes)


OPERATORS: dict[str, Any] = {
    **{
        name: lambda a, b, out, name=name: [node(name, [a], out)]
        for name in ("Relu", "Sigmoid", "Tanh", "Erf")
    },
    **{
        name: lambda a, b, out, name=name: [node(name, [a, b], out)]
        for name in ("Add", "Max", "Min")
    },
    "Conv": lambda a, b, out: [node("Conv", [a, "weight"], out, pads=[1, 1, 1, 1])],
    "Clip": lambda a, b, out: [node("Clip", [a, "zero", "six"], out)],
    "Scale": lambda a, b, out: [node("Mul", [a, "half"], out)],
    "Softmax": lambda a, b, out: [node("Softmax", [a], out, axis=1)],
    "Pool": lambda a, b, out: [
        node("AveragePool", [a], out, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    ],
    "Mean": lambda a, b, out: [node("ReduceMean", [a, "axes"], out)],
    # Its scales are float32 by definition, and here every Resize shares one initializer.
    "Resize": lambda a, b, out: [node("Resize", [a, "", "scales"], out)],
    "Cast": lambda a, b, out: [
        node("Cast", [a], f"{out}_d", to=TensorProto.DOUBLE),
        node("Cast", [f"{out}_d"], out, to=FLOAT),
    ],
    # Range has no low precision in opset 20: a whole node that stays float32.
    "Range": lambda a, b, out: [
        node("Range", ["zero", "four", "one"], f"{out}_r"),
        node("Reshape", [f"{out}_r", "column"], f"{out}_c"),
        node("Add", [a, f"{out}_c"], out),
    ],
    "Leaky": lambda a, b, out: [
        node("Greater", [a, "zero"], f"{out}_g"),
        node("Mul", [a, "half"], f"{out}_m"),
        node("Where", [f"{out}_g", a, f"{out}_m"], out),
    ],
    "Constant": lambda a, b, out: [
        node("Constant", [], f"{out}_k", value_float=0.25),
        node("Add", [a, f"{out}_k"], out),
    ],
    "Masked": lambda a, b, out: [
        node("Add", [a, "mask"], f"{out}_m"),
        node("Max", [f"{out}_m", a], out),
    ],
}


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """Chains and diamonds of operators over one input; one to three of its values are outputs."""
    nodes, values = [], ["x"]
    for index in range(draw(st.integers(1, 8))):
        a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        nodes += OPERATORS[draw(st.sampled_from(sorted(OPERATORS)))](a, b, f"v{index}")
        values.append(f"v{index}")
    outputs = draw(st.lists(st.sampled_from(values[1:]), min_size=1, max_size=3, unique=True))
    return model(nodes, outputs)


@given(graphs())
def test_a_cast_graph_is_valid_looks_the_same_and_computes_nearly_the_same(
    proto: onnx.ModelProto,
) -> None:
    lowered, _ = cast(proto)
    assert outside(lowered) == outside(proto)
    for exact, result in zip(run(proto), run(lowered), strict=True):
        assert result.shape == exact.shape
        assert np.max(np.abs(result - exact)) <= 0.02 * max(1.0, float(np.max(np.abs(exact))))


@given(graphs(), st.data())
def test_nodes_that_are_kept_stay_float32_and_the_rest_of_the_graph_is_right(
    proto: onnx.ModelProto, data: st.DataObject
) -> None:
    names = [kept.name for kept in proto.graph.node]
    keep = data.draw(st.sets(st.sampled_from(names)))
    lowered, _ = cast(proto, keep=keep)
    assert outside(lowered) == outside(proto)
    inferred = onnx.shape_inference.infer_shapes(lowered)
    values = [*inferred.graph.value_info, *inferred.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    outputs = []
    for kept in lowered.graph.node:
        if kept.name in keep:
            outputs += [types[name] for name in kept.output]
    assert HALF not in outputs
    for exact, result in zip(run(proto), run(lowered), strict=True):
        assert np.max(np.abs(result - exact)) <= 0.02 * max(1.0, float(np.max(np.abs(exact))))


@given(graphs())
def test_a_graph_whose_nodes_are_all_kept_is_exact(proto: onnx.ModelProto) -> None:
    lowered, report = cast(proto, keep={kept.name for kept in proto.graph.node})
    assert report.converted == 0
    targets = []
    for lowered_node in lowered.graph.node:
        targets += [attribute.i for attribute in lowered_node.attribute if attribute.name == "to"]
    assert HALF not in targets
    for exact, result in zip(run(proto), run(lowered), strict=True):
        assert np.allclose(result, exact, rtol=1e-5, atol=1e-6)


@given(graphs())
def test_bf16_gives_a_valid_graph_that_looks_the_same(proto: onnx.ModelProto) -> None:
    assert outside(cast(proto, "bf16")[0]) == outside(proto)


def test_computing_nodes_become_low_precision() -> None:
    proto = model(
        [node("Conv", ["x", "weight"], "a", pads=[1] * 4), node("Relu", ["a"], "y")], ["y"]
    )
    lowered, report = cast(proto)
    assert types_of(lowered, "Conv") == [HALF]
    assert {tensor.name: tensor.data_type for tensor in lowered.graph.initializer} == {
        "weight": HALF
    }
    assert (report.converted, report.kept) == (2, {})


def test_an_operator_without_low_precision_stays_float32_and_is_reported() -> None:
    proto = model([*OPERATORS["Range"]("x", "x", "y")], ["y"])
    lowered, report = cast(proto)
    assert types_of(lowered, "Range") == [FLOAT]
    assert types_of(lowered, "Add") == [HALF]
    assert report.kept == {"Range": 1}


def test_between_two_nodes_that_are_kept_no_value_is_rounded() -> None:
    """A value of 4e5 is infinite in float16: it must pass between the two in float32."""
    nodes = [
        node("Mul", ["x", "many"], "a"),
        node("Neg", ["a"], "b"),
        node("Div", ["b", "many"], "c"),
        node("Relu", ["c"], "y"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", FLOAT, SHAPE)],
        [numpy_helper.from_array(np.array(4e5, np.float32), "many")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    proto = onnx.shape_inference.infer_shapes(proto)
    lowered, report = cast(proto, keep=[kept.name for kept in nodes[:3]])
    assert np.allclose(run(lowered)[0], run(proto)[0], atol=2e-3)
    assert (report.converted, report.kept) == (1, {"Mul": 1, "Neg": 1, "Div": 1})
    assert [kept.op_type for kept in lowered.graph.node] == [
        "Mul",
        "Neg",
        "Div",
        "Cast",
        "Relu",
        "Cast",
    ]
    # ONNX Runtime's CPU would compute the float16 graph in float32; the reference does not.
    x = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    with np.errstate(all="ignore"):
        (blind,) = ReferenceEvaluator(cast(proto)[0]).run(None, {"x": x})
        (kept,) = ReferenceEvaluator(lowered).run(None, {"x": x})
    assert not np.isfinite(blind).all()
    assert np.allclose(kept, run(proto)[0], atol=2e-3)


def test_conv_has_bf16_only_from_opset_22_on() -> None:
    nodes = [node("Conv", ["x", "weight"], "y", pads=[1] * 4)]
    assert types_of(cast(model(nodes, ["y"], 20), "bf16")[0], "Conv") == [FLOAT]
    onnx22, report = cast(model(nodes, ["y"], 22), "bf16")
    assert types_of(onnx22, "Conv") == [BF16]
    assert report.kept == {}


def test_a_constant_that_must_stay_float32_is_not_rounded_on_the_way() -> None:
    """1.1 in float16 is 1.0996: thirty pixels would become 32 and not 33."""
    scales = numpy_helper.from_array(np.array([1, 1, 1.1, 1.1], np.float32), "up")
    graph = helper.make_graph(
        [
            node("Resize", ["x", "", "up"], "a"),
            node("Resize", ["x", "", "up"], "b"),
            node("Add", ["a", "b"], "y"),
        ],
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, [1, 1, 30, 30])],
        [helper.make_tensor_value_info("y", FLOAT, [1, 1, 33, 33])],
        [scales],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    lowered, _ = cast(onnx.shape_inference.infer_shapes(proto))
    (kept,) = (numpy_helper.to_array(tensor) for tensor in lowered.graph.initializer)
    assert np.array_equal(kept, numpy_helper.to_array(scales))
    assert outside(lowered)[1] == ("y", FLOAT, [1, 1, 33, 33])


def test_values_beyond_the_range_become_the_largest_not_infinite() -> None:
    proto = model([node("Add", ["x", "mask"], "a"), node("Softmax", ["a"], "y", axis=1)], ["y"])
    lowered, _ = cast(proto)
    (mask,) = (numpy_helper.to_array(tensor) for tensor in lowered.graph.initializer)
    assert np.isfinite(mask).all()
    assert np.allclose(run(proto)[0], run(lowered)[0], atol=1e-3)


def test_integers_are_left_alone() -> None:
    proto = model(
        [node("Shape", ["x"], "s"), node("Cast", ["s"], "f", to=FLOAT), node("Relu", ["f"], "y")],
        ["y"],
    )
    lowered, _ = cast(proto)
    assert types_of(lowered, "Shape") == [TensorProto.INT64]
    assert run(lowered)[0].tolist() == SHAPE


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_control_flow_is_refused(precision: Precision) -> None:
    branch = helper.make_graph(
        [node("Relu", ["x"], "r")], "branch", [], [helper.make_tensor_value_info("r", FLOAT, SHAPE)]
    )
    nodes = [
        node("ReduceSum", ["x"], "s", keepdims=0),
        node("Greater", ["s", "zero"], "g"),
        node("If", ["g"], "y", then_branch=branch, else_branch=branch),
    ]
    with pytest.raises(ExportError, match=f"control flow .* cannot be cast to {precision}"):
        cast(model(nodes, ["y"]), precision)
