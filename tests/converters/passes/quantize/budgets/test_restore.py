"""Layers that become float again lose the quantizations around them, and no others do."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
from onnx import TensorProto, helper, numpy_helper

from converters.graph.flow.pairs import repeat_pairs
from converters.graph.qdq import layers, quantizers
from converters.passes.quantize.budgets.restore import restore

NODE = helper.make_node
LAYERS = {"left": "x", "right": "x", "last": "joined", "head": "last_out"}
"""What each convolution reads; `joined` is the Concat of the first two."""
RNG = np.random.default_rng(0)
WEIGHTS = {
    name: RNG.integers(-127, 127, (4, 8 if name == "last" else 4, 1, 1)).astype(np.int8)
    for name in LAYERS
}


def model_of(quantized: bool) -> onnx_ir.Model:
    """Make a network whose third layer reads the joined results of two others, plain or with pairs."""
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, np.ndarray] = {
        "step": np.float32(0.05),
        "zero": np.int8(0),
    }

    def read(value: str) -> str:
        if not quantized or value == "joined":
            return value
        if not any(f"{value}_back" in node.output for node in nodes):
            nodes.append(NODE("QuantizeLinear", [value, "step", "zero"], [f"{value}_q"]))
            nodes.append(
                NODE("DequantizeLinear", [f"{value}_q", "step", "zero"], [f"{value}_back"])
            )
        return f"{value}_back"

    for name, source in LAYERS.items():
        if source == "joined":
            nodes.append(NODE("Concat", [read("left_out"), read("right_out")], ["joined"], axis=1))
        weight = f"{name}_w"
        if quantized:
            constants[f"{name}_codes"] = WEIGHTS[name]
            nodes.append(NODE("DequantizeLinear", [f"{name}_codes", "step", "zero"], [weight]))
        else:
            constants[weight] = WEIGHTS[name].astype(np.float32) * np.float32(0.05)
        nodes.append(NODE("Conv", [read(source), weight], [f"{name}_out"], name))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 2, 2])],
        [helper.make_tensor_value_info("head_out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model = onnx_ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    if quantized:
        assert repeat_pairs(model) == 1
    return model


def states(model: onnx_ir.Model) -> dict[str | None, bool]:
    return {layer.node.name: layer.quantized for layer in layers(model)}


def test_without_any_quantized_layer_no_pair_is_left_also_around_a_concat() -> None:
    model = model_of(quantized=True)
    assert all(states(model).values())
    restore(model, model_of(quantized=False), list(LAYERS))
    assert quantizers(model) == []
    assert not any(states(model).values())


def test_pairs_stay_where_a_quantized_layer_reads_through_a_concat() -> None:
    model = model_of(quantized=True)
    restore(model, model_of(quantized=False), ["left", "right", "head"])
    assert states(model)["last"]
    assert not states(model)["left"]
    sources = {str(node.inputs[0].name) for node in quantizers(model) if node.inputs[0]}
    assert sources == {"left_out", "right_out", "joined", "last_out"}
