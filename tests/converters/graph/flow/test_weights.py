"""Layers get constant weights of their own, and the graph computes the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.graph.flow.weights import own_weights, with_own_weights
from converters.graph.qdq import constant

NODE = helper.make_node
RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((12, 8)).astype(np.float32)
GATES = {name: RNG.standard_normal((1, 8, 8)).astype(np.float32) for name in ("i", "o", "f", "c")}


def model_of(nodes: list[onnx.NodeProto], ids: bool = True, **constants: Any) -> onnx.ModelProto:
    source = ("ids", TensorProto.INT64, [5]) if ids else ("x", TensorProto.FLOAT, [3, 2, 8])
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*source)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


HEADS = {
    "a transposed embedding": [
        NODE("Gather", ["table", "ids"], ["x"]),
        NODE("Transpose", ["table"], ["turned"], perm=[1, 0]),
        NODE("MatMul", ["x", "turned"], ["y"], "head"),
    ],
    "an embedding": [
        NODE("Gather", ["table", "ids"], ["x"]),
        NODE("Gemm", ["x", "table"], ["y"], "head", transB=1),
    ],
}


def run(model: onnx.ModelProto, inputs: dict[str, Any]) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.asarray(session.run(["y"], inputs)[0])


@pytest.mark.parametrize("form", HEADS)
def test_a_head_that_shares_the_embeddings_weight_gets_its_own(form: str) -> None:
    proto = model_of(HEADS[form], table=TABLE)
    model = onnx_ir.from_proto(proto)
    assert own_weights(model) == 1
    head = next(node for node in model.graph if node.name == "head")
    gather = next(node for node in model.graph if node.op_type == "Gather")
    assert constant(head.inputs[1]) is not None
    assert head.inputs[1] is not gather.inputs[0]
    inputs = {"ids": np.arange(5)}
    assert np.array_equal(run(onnx_ir.to_proto(model), inputs), run(proto, inputs))
    assert own_weights(model) == 0


def test_the_gates_of_an_lstm_that_the_graph_reorders_become_one_constant() -> None:
    nodes = [
        NODE("Concat", [f"w_{gate}" for gate in "iofc"], ["w"], axis=1),
        NODE("Concat", [f"r_{gate}" for gate in "iofc"], ["r"], axis=1),
        NODE("LSTM", ["x", "w", "r"], ["y"], "lstm", hidden_size=8),
    ]
    gates = {f"{kind}_{gate}": array for kind in "wr" for gate, array in GATES.items()}
    proto = model_of(nodes, ids=False, **gates)
    model = onnx_ir.from_proto(proto)
    assert own_weights(model) == 2
    assert [node.op_type for node in model.graph] == ["LSTM"]
    inputs = {"x": RNG.standard_normal((3, 2, 8)).astype(np.float32)}
    assert np.array_equal(run(onnx_ir.to_proto(model), inputs), run(proto, inputs))


def test_weights_that_are_computed_from_an_input_stay() -> None:
    nodes = [
        NODE("Gather", ["table", "ids"], ["x"]),
        NODE("Transpose", ["x"], ["turned"], perm=[1, 0]),
        NODE("MatMul", ["x", "turned"], ["y"], "product"),
    ]
    assert own_weights(onnx_ir.from_proto(model_of(nodes, table=TABLE))) == 0


def test_a_file_whose_layers_have_their_weights_stays_as_it_is(tmp_path: Path) -> None:
    nodes = [NODE("Gather", ["table", "ids"], ["x"]), NODE("MatMul", ["x", "w"], ["y"], "layer")]
    path = tmp_path / "graph.onnx"
    onnx.save(model_of(nodes, table=TABLE, w=TABLE.T.copy()), path)
    assert with_own_weights(path, tmp_path) == path
    onnx.save(model_of(HEADS["an embedding"], table=TABLE), path)
    assert with_own_weights(path, tmp_path) == tmp_path / "weights.onnx"
