"""Small QDQ graphs, written as the steps that a value of 1x4x8x8 goes through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "MaxPool": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "AveragePool": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "ReduceMean": {"keepdims": 1},
}
Step = tuple[list[onnx.NodeProto], dict[str, Any]]


def _quantize(number: int, value: str, kind: type[np.generic] = np.uint8) -> Step:
    names = [f"step{number}", f"zero{number}"]
    nodes = [
        helper.make_node(
            "QuantizeLinear", [value, *names], [f"code{number}"], name=f"quantize{number}"
        ),
        helper.make_node(
            "DequantizeLinear",
            [f"code{number}", *names],
            [f"v{number}"],
            name=f"dequantize{number}",
        ),
    ]
    return nodes, {names[0]: np.float32(0.05), names[1]: np.array(3, kind)}


def _weighted(number: int, value: str, operator: str, quantized: bool) -> Step:
    shape = {"Conv": (4, 4, 3, 3), "ConvTranspose": (4, 4, 3, 3), "MatMul": (8, 8)}[operator]
    axis = 0 if operator == "Conv" else 1
    codes = np.random.default_rng(number).integers(-127, 128, shape).astype(np.int8)
    pads = {} if operator == "MatMul" else {"pads": [1] * 4}
    node = helper.make_node(
        operator, [value, f"w{number}"], [f"v{number}"], name=f"{operator}{number}", **pads
    )
    if not quantized:
        return [node], {f"w{number}": codes.astype(np.float32) * 0.01}
    names = [f"codes{number}", f"wstep{number}", f"wzero{number}"]
    dequantizer = helper.make_node(
        "DequantizeLinear", names, [f"w{number}"], name=f"weight{number}", axis=axis
    )
    steps, zeros = np.full(shape[axis], 0.01, np.float32), np.zeros(shape[axis], np.int8)
    return [dequantizer, node], dict(zip(names, (codes, steps, zeros), strict=True))


def _step(number: int, value: str, step: str) -> Step:
    if step in ("q", "q8"):
        return _quantize(number, value, np.int8 if step == "q8" else np.uint8)
    operator = step.removeprefix("float ")
    if operator in ("Conv", "ConvTranspose", "MatMul"):
        return _weighted(number, value, operator, not step.startswith("float "))
    attributes = _ATTRIBUTES.get(step, {})
    inputs = [value, "x"] if step == "Add" else [value, "axes"] if step == "ReduceMean" else [value]
    constants = {"axes": np.array([2, 3])} if step == "ReduceMean" else {}
    return [
        helper.make_node(step, inputs, [f"v{number}"], name=f"{step}{number}", **attributes)
    ], constants


@pytest.fixture
def make_graph() -> Callable[..., onnx.ModelProto]:
    """Make a graph of steps.

    `q` and `q8` are pairs of uint8 and int8, `Conv` has int8 weights, `float Conv` has float ones,
    `Add` adds the input; other operators go by their names.
    """

    def make(*steps: str) -> onnx.ModelProto:
        nodes: list[onnx.NodeProto] = []
        constants: dict[str, Any] = {}
        value = "x"
        for number, step in enumerate(steps):
            step_nodes, more = _step(number, value, step)
            nodes, constants, value = (
                [*nodes, *step_nodes],
                constants | more,
                step_nodes[-1].output[0],
            )
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
            [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        return onnx.shape_inference.infer_shapes(proto, strict_mode=True)

    return make
