"""A mode that has next to nothing to do is refused before any work, with a way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.errors import ExportError
from converters.passes.quantize.possible import check_possible
from converters.recipe.quantize import QuantizeOptions
from runtimes.spec import DimRange

DIMS = {"batch": DimRange(min=1, opt=1, max=4)}
NODE = helper.make_node


def save(path: Path, cell: str, head: int) -> Path:
    """Save a recurrent layer of 32 units over 6 steps, then a product with `head` results."""
    gates = {"LSTM": 4, "GRU": 3}[cell]
    constants = {
        "w": np.zeros((1, gates * 32, 16)),
        "r": np.zeros((1, gates * 32, 32)),
        "v": np.zeros((32, head)),
    }
    graph = helper.make_graph(
        [
            NODE(cell, ["x", "w", "r"], ["states"], "reader", hidden_size=32),
            NODE("MatMul", ["states", "v"], ["y"], "head"),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [6, "batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array.astype(np.float32), n) for n, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


def check(path: Path, mode: str, format_name: str = "onnx") -> None:
    check_possible(path, QuantizeOptions.model_validate({"mode": mode}), format_name, DIMS)


def test_lstm_layers_are_refused_where_no_kernel_takes_them(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", "LSTM", head=4)
    for mode, name in (("static", "onnx"), ("static", "openvino"), ("weight-only", "onnx")):
        with pytest.raises(ExportError) as error:
            check(path, mode, name)
        words = str(error.value)
        assert "would leave 98% of the multiply-adds float, and 98% of the weights" in words
        assert f"{name} has no such kernel for LSTM layers (reader)" in words
        assert words.endswith("`quantize: dynamic` in format onnx quantizes LSTM layers")
    check(path, "dynamic")


def test_no_mode_takes_gru_layers(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", "GRU", head=4)
    for mode in ("static", "dynamic", "weight-only"):
        with pytest.raises(ExportError, match=r"GRU and RNN layers \(reader\); leave `quantize`"):
            check(path, mode)


def test_a_model_that_is_mostly_something_else_is_quantized(tmp_path: Path) -> None:
    check(save(tmp_path / "a.onnx", "GRU", head=400), "static")
