"""Shapes at given sizes, without reading weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from converters.graph.flow.shapes import load_at_sizes

NODE = helper.make_node


def save(path: Path, external: bool) -> Path:
    """Save a product of x, [batch, length, 64], whose rows are then counted by the graph itself."""
    constants = {"w": np.zeros((64, 48), np.float32), "shape": np.array([-1, 48])}
    graph = helper.make_graph(
        [NODE("MatMul", ["x", "w"], ["a"]), NODE("Reshape", ["a", "shape"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path, save_as_external_data=external, location="w.bin", size_threshold=1000)
    return path


def test_dynamic_dimensions_get_their_sizes_and_the_rest_follows(tmp_path: Path) -> None:
    model = load_at_sizes(save(tmp_path / "a.onnx", external=False), {"batch": 2, "length": 5})
    shapes = {node.op_type: node.outputs[0].shape for node in model.graph}
    assert shapes["MatMul"] == (2, 5, 48)
    assert shapes["Reshape"] == (10, 48)


def test_weights_beside_the_file_are_not_needed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", external=True)
    (tmp_path / "w.bin").unlink()
    model = load_at_sizes(path, {"batch": 3})
    weight = model.graph.initializers["w"]
    assert weight.shape == (64, 48), "a constant of this shape, without values"
