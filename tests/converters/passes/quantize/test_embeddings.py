"""Tables of embeddings in int8: a quarter of the bytes, half a step from the float ones."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.passes.quantize.embeddings import quantize_embeddings

NODE = helper.make_node
TABLE = np.random.default_rng(0).standard_normal((100, 16)).astype(np.float32)
TABLE[::7] *= 50
TABLE[3] = 0


def model_of(table: np.ndarray, *more: onnx.NodeProto) -> onnx.ModelProto:
    graph = helper.make_graph(
        [NODE("Gather", ["table", "ids"], ["y"], "embed"), *more],
        "graph",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5, 16])],
        [numpy_helper.from_array(table, "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_lookup_is_half_a_step_from_the_float_one_and_a_quarter_of_its_size() -> None:
    proto = model_of(TABLE)
    model = onnx_ir.from_proto(proto)
    assert quantize_embeddings(model, ()) == 1
    content = onnx_ir.to_proto(model).SerializeToString()
    ids = np.arange(100).reshape(20, 5)
    [rows] = onnxruntime.InferenceSession(content).run(["y"], {"ids": ids})
    steps = np.abs(TABLE).max(1, keepdims=True) / 127
    assert (np.abs(rows.reshape(TABLE.shape) - TABLE) <= steps * 0.5001).all()
    kinds = {name: value.dtype for name, value in model.graph.initializers.items()}
    assert kinds["table_codes"] == onnx_ir.DataType.INT8
    assert "table" not in kinds


@pytest.mark.parametrize("why", ["excluded", "small", "read by a layer"])
def test_other_tables_stay_as_they_are(why: str) -> None:
    table = TABLE[:20] if why == "small" else TABLE
    more = [NODE("Relu", ["table"], ["z"])] if why == "read by a layer" else []
    model = onnx_ir.from_proto(model_of(table, *more))
    assert quantize_embeddings(model, {"embed"} if why == "excluded" else ()) == 0
