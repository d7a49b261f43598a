"""A first layer with more channels computes the same numbers, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from converters.graph.stem import widen_stems


def graph(weight: Any, size: tuple[Any, Any], zero: Any, **attributes: Any) -> ir.Model:
    """Quantize, convolve, quantize."""
    channels = weight.shape[1]
    steps, none = np.full(len(weight), 0.02, np.float32), np.zeros(len(weight), np.int8)
    names = {
        "scale": np.float32(0.05),
        "zero": zero,
        "weight": weight,
        "steps": steps,
        "none": none,
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"], name="q"),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["read"], name="dq"),
        helper.make_node("DequantizeLinear", ["weight", "steps", "none"], ["w"], axis=0, name="dw"),
        helper.make_node("Conv", ["read", "w"], ["y"], name="conv", **attributes),
    ]
    proto_graph = helper.make_graph(
        nodes,
        "stem",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, *size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in names.items()],
    )
    model = helper.make_model(
        proto_graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def run(model: ir.Model, x: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


def draw(seed: int, kernel: tuple[int, int], channels: int = 3) -> Any:
    return np.random.default_rng(seed).integers(-127, 128, (5, channels, *kernel)).astype(np.int8)


SIDES = st.integers(1, 8)


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(SIDES, SIDES),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.lists(st.integers(0, 4), min_size=4, max_size=4),
    st.tuples(st.integers(4, 21), st.integers(4, 21)),
    st.sampled_from([np.uint8(114), np.uint8(0), np.int8(-3)]),
    st.integers(2, 3),
)
def test_the_numbers_are_the_same_to_the_bit(
    seed: int, kernel: Any, strides: Any, pads: list[int], size: Any, zero: Any, channels: int
) -> None:
    assume(all(size[axis] + pads[axis] + pads[axis + 2] >= kernel[axis] for axis in (0, 1)))
    weight = draw(seed, kernel, channels)
    before, after = (
        graph(weight, size, zero, kernel_shape=kernel, strides=strides, pads=pads) for _ in range(2)
    )
    assert widen_stems(after) == 1
    x = np.random.default_rng(seed).normal(0, 4, (2, channels, *size)).astype(np.float32)
    # Integers that float32 holds exactly: the order of their sum does not matter.
    scale = 0.05 * 0.02
    assert np.array_equal(np.rint(run(before, x) / scale), np.rint(run(after, x) / scale))


@pytest.mark.parametrize(
    ("kernel", "stride", "operators"),
    [((7, 7), 2, ["Pad", "SpaceToDepth"]), ((3, 3), 2, ["Pad"]), ((7, 7), 1, ["Pad"])],
)
def test_the_rewrite_depends_on_the_kernel(
    kernel: tuple[int, int], stride: int, operators: list[str]
) -> None:
    model = graph(draw(0, kernel), (16, 16), np.uint8(7), strides=[stride] * 2)
    widen_stems(model)
    unchanged = ("QuantizeLinear", "DequantizeLinear", "Conv")
    assert [node.op_type for node in model.graph if node.op_type not in unchanged] == operators


def test_a_size_that_is_not_known_gets_zeros() -> None:
    model = graph(draw(0, (7, 7)), ("h", "w"), np.uint8(7), strides=[2, 2])
    assert widen_stems(model) == 1
    assert "SpaceToDepth" not in [node.op_type for node in model.graph]
    assert run(model, np.ones((1, 3, 9, 9), np.float32)).shape == (1, 5, 2, 2)


@pytest.mark.parametrize(
    ("weight", "attributes"),
    [
        (draw(0, (3, 3), 4), {}),
        (draw(0, (3, 3), 1), {}),
        (draw(0, (3, 3)), {"dilations": [2, 2]}),
        (draw(0, (3, 3)), {"auto_pad": "SAME_UPPER"}),
    ],
    ids=["four channels", "one channel", "dilated", "pads of its own"],
)
def test_others_stay_as_they_are(weight: Any, attributes: dict[str, Any]) -> None:
    assert widen_stems(graph(weight, (16, 16), np.uint8(7), **attributes)) == 0
