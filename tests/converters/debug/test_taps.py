"""Values read from inside ONNX and TorchScript graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from converters.debug.taps.onnx import OnnxTaps
from converters.debug.taps.torchscript import TorchScriptTaps
from runtimes.errors import ArtifactError
from tests.converters.debug.models import net

IMAGE = {"image": np.random.default_rng(1).standard_normal((3, 3, 16, 16)).astype(np.float32)}


def _onnx(small: Any, path: Path | None = None) -> OnnxTaps:
    return OnnxTaps(path or small.onnx, small.eager.paths, small.inputs)


def test_onnx_nodes_know_their_module_and_shape(small: Any) -> None:
    graph = _onnx(small).graph
    convolutions = {node.path: node.shape for node in graph.nodes if node.op == "Conv"}
    assert convolutions == dict.fromkeys(
        ("stem", "block.bn1", "block.bn2", "inverted.conv.1"), (2, 8, 8, 8)
    )
    assert list(graph.outputs) == ["a", "b"]


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_both_exporters_name_modules(small: Any, write: Callable[..., Path], exporter: str) -> None:
    comparison = small.compare(write(net(), "onnx", exporter=exporter))
    assert comparison.unmatched == []
    names = [layer.name for layer in comparison.layers]
    assert names[:5] == [
        "stem",
        "block.conv1 + block.bn1",
        "block.relu (call 1 of 2)",
        "block.conv2 + block.bn2",
        "block.relu (call 2 of 2)",
    ]


def test_weights_name_the_module_if_nothing_else_does(small: Any, edit: Any) -> None:
    def strip(model: Any) -> None:
        for node in model.graph.node:
            del node.metadata_props[:]
            node.name = ""

    graph = _onnx(small, edit(small.onnx, strip)).graph
    assert [node.path for node in graph.nodes if node.op == "Conv"] == [
        "stem",
        "block.conv1",
        "block.conv2",
        "inverted.conv.0",
    ]


@pytest.mark.parametrize("text", ["not a list", "[", "{'a': 1}"])
def test_metadata_that_makes_no_sense_is_left_aside(small: Any, edit: Any, text: str) -> None:
    def spoil(model: Any) -> None:
        for node in model.graph.node:
            for entry in node.metadata_props:
                entry.value = text

    assert _onnx(small, edit(small.onnx, spoil)).graph.nodes[0].path == "stem"  # by its weights


def test_onnx_values_are_those_of_the_graph(small: Any) -> None:
    taps = _onnx(small)
    relu = next(node for node in taps.graph.nodes if node.op == "Relu")
    values = taps.read(IMAGE, [relu.value, relu.inputs[0], "a"])
    np.testing.assert_array_equal(values[relu.value], np.maximum(values[relu.inputs[0]], 0))
    assert values["a"].shape == (3, 6)


def test_an_onnx_graph_that_does_not_run(small: Any) -> None:
    with pytest.raises(ArtifactError, match="ONNX Runtime cannot run the graph"):
        _onnx(small).read({"image": IMAGE["image"][:, :2]}, ["a"])


def test_a_branch_reads_values_from_outside(tmp_path: Path) -> None:
    """An If depends on all values that its branches take from outside."""
    value = helper.make_tensor_value_info
    then = helper.make_graph(
        [helper.make_node("Neg", ["y"], ["t"])], "t", [], [value("t", TensorProto.FLOAT, [2])]
    )
    other = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["e"])], "e", [], [value("e", TensorProto.FLOAT, [2])]
    )
    nodes = [
        helper.make_node("Exp", ["x"], ["y"]),
        helper.make_node("If", ["c"], ["z"], then_branch=then, else_branch=other),
    ]
    inputs = [value("x", TensorProto.FLOAT, [2]), value("c", TensorProto.BOOL, [])]
    graph = helper.make_graph(nodes, "g", inputs, [value("z", TensorProto.FLOAT, [2])])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        tmp_path / "m.onnx",
    )
    example = {"x": np.ones(2, np.float32), "c": np.array(True)}
    taps = OnnxTaps(tmp_path / "m.onnx", [], example)
    assert set(taps.graph.nodes[1].inputs) == {"c", "y", "x"}
    np.testing.assert_allclose(taps.read(example, ["z"])["z"], -np.exp(np.ones(2)), rtol=1e-6)


def test_weights_beside_the_graph(small: Any, tmp_path: Path) -> None:
    model = onnx.load(str(small.onnx))
    onnx.save(
        model,
        str(tmp_path / "m.onnx"),
        save_as_external_data=True,
        size_threshold=100,
        location="weights",
    )
    values = _onnx(small, tmp_path / "m.onnx").read(IMAGE, ["a"])
    np.testing.assert_array_equal(values["a"], _onnx(small).read(IMAGE, ["a"])["a"])


def test_torchscript_values_before_an_in_place_node(small: Any) -> None:
    """aten::relu_ writes over its input: the input is read as it was."""
    taps = TorchScriptTaps(small.torchscript, small.inputs, by_keyword=False)
    relu = next(node for node in taps.graph.nodes if node.op == "aten::relu_")
    values = taps.read(IMAGE, [relu.inputs[0], relu.value])
    assert values[relu.inputs[0]].min() < 0
    np.testing.assert_array_equal(np.maximum(values[relu.inputs[0]], 0), values[relu.value])


def test_torchscript_outputs_are_those_of_the_module(small: Any) -> None:
    taps = TorchScriptTaps(small.torchscript, small.inputs, by_keyword=False)
    values = taps.read(IMAGE, taps.graph.outputs)
    with torch.no_grad():
        outputs = torch.jit.load(str(small.torchscript))(torch.from_numpy(IMAGE["image"]))
    for name, tensor in zip(taps.graph.outputs, outputs, strict=True):
        np.testing.assert_array_equal(values[name], tensor.numpy())


class _Keywords(nn.Module):
    """A module with inputs in another order than the recipe, a default, a branch, named outputs."""

    def forward(
        self, x: torch.Tensor, y: torch.Tensor, scale: float = 2.0, mask: torch.Tensor | None = None
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        z = torch.sin(x) - scale * y
        if bool(x.sum() > 0):
            z = torch.neg(z)
        if mask is not None:
            z = z * mask
        return {"z": z, "y": torch.exp(y)}, None


def test_torchscript_arguments_go_by_name(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(
            torch.jit.freeze(torch.jit.script(_Keywords().eval())), str(tmp_path / "m.pt")
        )
    inputs = {"y": np.array([1.0, 2.0], np.float32), "x": np.array([3.0, 4.0], np.float32)}
    taps = TorchScriptTaps(tmp_path / "m.pt", inputs, by_keyword=True)
    values = taps.read(inputs, taps.graph.outputs)
    z, y = (values[name] for name in taps.graph.outputs)
    np.testing.assert_allclose(z, 2 * inputs["y"] - np.sin(inputs["x"]), rtol=1e-6)
    np.testing.assert_allclose(y, np.exp(inputs["y"]), rtol=1e-6)


def test_a_torchscript_graph_that_does_not_run(small: Any) -> None:
    taps = TorchScriptTaps(small.torchscript, small.inputs, by_keyword=False)
    with pytest.raises(ArtifactError, match="torch cannot run the graph"):
        taps.read({"image": IMAGE["image"][:, :2]}, taps.graph.outputs)


def test_a_file_that_is_no_torchscript(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match=r"torch cannot load m\.pt"):
        TorchScriptTaps(tmp_path / "m.pt", IMAGE, by_keyword=False)
