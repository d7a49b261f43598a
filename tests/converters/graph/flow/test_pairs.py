"""Layers after a Concat, a Split or a Slice read quantized values, and the numbers stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.graph.flow.pairs import repeat_pairs
from converters.graph.qdq import layers

NODE = helper.make_node
CONSTANTS = {
    "fine": np.float32(0.02),
    "coarse": np.float32(0.05),
    "zero": np.int8(3),
    "codes": np.random.default_rng(0).integers(-127, 127, (5, 8, 1, 1)).astype(np.int8),
    "none": np.int8(0),
    "starts": np.array([0]),
    "ends": np.array([4]),
    "axes": np.array([1]),
}


def pair(source: str, scale: str = "fine") -> list[onnx.NodeProto]:
    return [
        NODE("QuantizeLinear", [source, scale, "zero"], [f"{source}_codes"]),
        NODE("DequantizeLinear", [f"{source}_codes", scale, "zero"], [f"{source}_back"]),
    ]


def graph(*nodes: onnx.NodeProto) -> onnx_ir.Model:
    """Make a graph of `nodes` from x and z, [2, 4, 3, 3], through a quantized Conv of `read` to y."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4, 3, 3]) for name in "xz"]
    layer = [
        NODE("DequantizeLinear", ["codes", "fine", "none"], ["w"]),
        NODE("Conv", ["read", "w"], ["y"], "layer"),
    ]
    proto = helper.make_graph(
        [*nodes, *layer],
        "graph",
        ends,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in CONSTANTS.items()],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx_ir.from_proto(onnx.shape_inference.infer_shapes(model))


def run(model: onnx_ir.Model) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = onnx_ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, options)
    rng = np.random.default_rng(1)
    inputs = {name: rng.normal(size=(2, 4, 3, 3)).astype(np.float32) for name in "xz"}
    return np.asarray(session.run(None, inputs)[0])


def join(*parts: str) -> onnx.NodeProto:
    return NODE("Concat", parts, ["read"], axis=1)


MOVED: dict[str, Sequence[onnx.NodeProto]] = {
    "Concat": [*pair("x"), *pair("z"), join("x_back", "z_back")],
    "Concat of one part twice": [*pair("x"), join("x_back", "x_back")],
    "Concat of Slices": [
        *pair("x"),
        *pair("z"),
        NODE("Slice", ["x_back", "starts", "ends", "axes"], ["part"]),
        join("part", "z_back"),
    ],
    "Concat of Concats": [
        *pair("x"),
        *pair("z"),
        NODE("Concat", ["x_back", "z_back"], ["both"], axis=1),
        NODE("Split", ["both"], ["left", "right"], axis=1, num_outputs=2),
        join("right", "left"),
    ],
}


@pytest.mark.parametrize("form", MOVED)
def test_a_layer_after_operators_that_move_values_is_quantized_and_exact(form: str) -> None:
    model = graph(*MOVED[form])
    [layer] = layers(model)
    assert not layer.quantized
    before = run(model)
    assert repeat_pairs(model) == 1
    [layer] = layers(model)
    assert layer.quantized
    assert np.array_equal(run(model), before)
    assert repeat_pairs(model) == 0


def test_parts_of_several_scales_share_a_range_that_holds_them() -> None:
    model = graph(*pair("x"), *pair("z", "coarse"), join("x_back", "z_back"))
    before = run(model)
    assert repeat_pairs(model) == 1
    weights = np.abs(CONSTANTS["codes"] * np.float32(0.02)).sum((1, 2, 3)).max()
    assert np.abs(run(model) - before).max() <= weights * 0.05 / 2, "half a step of each input"


UNTOUCHED: dict[str, Sequence[onnx.NodeProto]] = {
    "a float part": [*pair("x"), join("x_back", "z")],
    "an operator that computes": [
        *pair("x"),
        *pair("z"),
        NODE("Concat", ["x_back", "z_back"], ["both"], axis=1),
        NODE("Sigmoid", ["both"], ["read"]),
    ],
}


@pytest.mark.parametrize("form", UNTOUCHED)
def test_values_that_were_not_quantized_stay_float(form: str) -> None:
    model = graph(*UNTOUCHED[form])
    assert repeat_pairs(model) == 0
