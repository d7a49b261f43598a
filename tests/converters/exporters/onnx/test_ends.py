"""A graph's inputs and outputs have the user's names, whatever its inner values are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from torch import nn

from converters.exporters.job import ExportJob
from converters.exporters.onnx.ends import name_ends
from converters.exporters.onnx.onnx import OnnxExporter, OnnxOptions

MakeJob = Callable[..., ExportJob]


class Encoder(nn.Module):
    """Takes a mean, a softmax and a ReLU inside; its outputs are called as a test likes."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = list(names)
        self.a = nn.Linear(4, 4)

    def forward(self, linear: torch.Tensor, relu: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = torch.relu(self.a(linear)) + relu
        hidden = hidden - hidden.mean(-1, keepdim=True)
        values = [hidden.softmax(-1), hidden, hidden.mean(-1)]
        return dict(zip(self.names, values, strict=True))


class Passing(nn.Module):
    """Passes a state on under its name, and returns values that are inputs or other outputs."""

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> dict[str, torch.Tensor]:
        total = x + state
        return {"state": total, "same": total, "x": total.mean(-1), "kept": state}


def answers(job: ExportJob, exporter: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Outputs by the graph's own names; the graph is checked as an artifact's."""
    options = OnnxOptions.model_validate({"format": "onnx", "exporter": exporter})
    exported = OnnxExporter().export(job, options)
    session = onnxruntime.InferenceSession(str(job.folder / exported.entry))
    assert [value.name for value in session.get_inputs()] == list(inputs)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


EXPORTERS = pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])


@EXPORTERS
@pytest.mark.parametrize(
    "names",
    [
        ["mean", "softmax", "linear_1"],
        ["a.weight", "relu_1", "Softmax"],
        ["val_0", "add", "/a/Gemm_output_0"],
    ],
)
def test_inner_values_give_way(make_job: MakeJob, exporter: str, names: list[str]) -> None:
    model = Encoder(names).eval()
    job = make_job(model, {"linear": ["batch", 4], "relu": ["batch", 4]}, {"batch": (1, 4)})
    torch.manual_seed(0)
    left, right = torch.randn(3, 4), torch.randn(3, 4)
    outputs = answers(job, exporter, {"linear": left.numpy(), "relu": right.numpy()})
    expected = model(left, right)
    assert list(outputs) == names
    for name in names:
        assert np.allclose(outputs[name], expected[name].detach().numpy(), atol=1e-6)


@EXPORTERS
def test_an_output_that_is_an_input_as_well(make_job: MakeJob, exporter: str) -> None:
    job = make_job(Passing(), {"x": ["batch", 4], "state": ["batch", 4]}, {"batch": (1, 4)})
    x, state = np.full((3, 4), 2, np.float32), np.ones((3, 4), np.float32)
    outputs = answers(job, exporter, {"x": x, "state": state})
    assert list(outputs) == ["state_out", "same", "x_out", "kept"]
    assert np.array_equal(outputs["state_out"], x + state)
    assert np.array_equal(outputs["same"], x + state)
    assert np.array_equal(outputs["x_out"], np.full(3, 3, np.float32))
    assert np.array_equal(outputs["kept"], state)


def graph(text: str) -> onnx_ir.Model:
    header = '<ir_version: 8, opset_import: ["" : 18]>\n'
    return onnx_ir.from_proto(onnx.parser.parse_model(header + text))


def test_names_inside_branches_give_way_too() -> None:
    model = graph(
        """net (float[2] a, bool c) => (float[2] b) {
            b = If (c) <then_branch = t () => (float[2] y) { y = Neg (a) },
                        else_branch = e () => (float[2] z) { z = Abs (a) }>
        }"""
    )
    name_ends(model, ["y", "z"], ["c"])
    proto = onnx_ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    [result] = session.run(["c"], {"y": np.ones(2, np.float32), "z": np.array(True)})
    assert np.array_equal(result, -np.ones(2))


def test_inputs_may_exchange_their_names() -> None:
    model = graph("net (float[2] a, float[2] b) => (float[2] y) { y = Sub (a, b) }")
    name_ends(model, ["b", "a"], ["y"])
    assert [value.name for value in model.graph.inputs] == ["b", "a"]
    assert [value.name for value in model.graph.node(0).inputs] == ["b", "a"]


def test_another_number_of_inputs_is_an_error() -> None:
    model = graph("net (float[2] a) => (float[2] y) { y = Neg (a) }")
    with pytest.raises(ValueError, match="1 inputs and 1 outputs, not 2 and 1: is an input unused"):
        name_ends(model, ["a", "mask"], ["y"])
