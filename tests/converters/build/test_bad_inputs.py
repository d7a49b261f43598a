"""Impossible labels, class names and operators: each error names the cause."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.build.build import build
from converters.errors import ExportError
from converters.exporters.openvino import read_graph
from converters.exporters.tensorrt.network import parse
from converters.plan.load import load_recipe
from runtimes.engines.tensorrt import quiet_logger
from runtimes.errors import ArtifactError, UsageError
from runtimes.results import Row, Status

Write = Callable[..., Path]

FACTORY = """
import numpy as np
import torch
from torch import nn


@torch.library.custom_op("acme::frobnicate", mutates_args=())
def frobnicate(x: torch.Tensor) -> torch.Tensor:
    return x + 1


@frobnicate.register_fake
def _(x):
    return torch.empty_like(x)


class Odd(nn.Module):
    def __init__(self, operator):
        super().__init__()
        self.body, self.operator = nn.Linear(4, 4), operator

    def forward(self, x):
        return self.operator(self.body(x))


def classifier():
    return nn.Linear(4, 3)


def determinant():
    return Odd(torch.linalg.det)


def custom():
    return Odd(torch.ops.acme.frobnicate)


def unlabelled():
    return [np.full(4, k, np.float32) for k in range(8)]
"""
RECIPE = """
model: python:user_odd:{model}
weights: random:0
inputs: {{x: {{shape: {shape}}}}}
dims: {{batch: {{max: 4}}}}
{more}
artifacts: {artifacts}
"""


@pytest.fixture
def convert(write: Write, tmp_path: Path) -> Callable[..., list[Row]]:
    """Builds a model of the factory above, not timed; the rows."""

    def convert(model: str, artifacts: str, more: str = "", shape: str = "[batch, 4]") -> list[Row]:
        write(FACTORY, "user_odd.py")
        recipe = write(RECIPE.format(model=model, artifacts=artifacts, more=more, shape=shape))
        return build(load_recipe(recipe), tmp_path / "out", budget=0).artifacts

    return convert


Convert = Callable[..., list[Row]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [0, 1, 2, 0, 3, -1],
            r"x\.npz \[4\] is 3, but the model has 3 classes, 0 to 2: do the labels count from 1",
        ),
        ([0, 1, 2, -1, 3, 0], r"x\.npz \[3\] is -1, but the model has 3 classes, 0 to 2$"),
        ([0, 1, 0.5, 1, 1, 1], r"the label of .*x\.npz \[2\] is 0\.5, not the index of a class"),
        ([0, np.nan, 0, 1, 1, 1], r"the label of .*x\.npz \[1\] is nan, not the index of a class"),
    ],
)
def test_labels_that_do_not_fit_end_the_build_before_its_first_artifact(
    convert: Convert, tmp_path: Path, labels: list[float], message: str
) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((6, 4), np.float32), y=np.array(labels))
    more = "task: classification\ndata: {evaluation: {arrays: x.npz, labels: y}}"
    with pytest.raises(UsageError, match=message) as caught:
        convert("classifier", "{torchscript: {}}", more)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", ["[cat, dog]", "imagenet"])
def test_class_names_are_as_many_as_classes(convert: Convert, tmp_path: Path, names: str) -> None:
    count = 1000 if names == "imagenet" else 2
    with pytest.raises(UsageError, match=rf"classes: {count} names, but the model has 3 classes"):
        convert("classifier", "{torchscript: {}}", f"classes: {names}")
    assert not (tmp_path / "out").exists()


def test_a_budget_of_accuracy_needs_samples_that_bring_labels_along(
    convert: Convert, tmp_path: Path
) -> None:
    more = (
        "task: classification\n"
        "data: {calibration: {random: 0}, evaluation: {factory: 'python:user_odd:unlabelled'}}"
    )
    small = "{small: {format: onnx, passes: [{quantize: {to: int8, max_drop: 5, metric: top1}}]}}"
    with pytest.raises(
        UsageError, match=r"artifacts\.small: metric: top1 is accuracy on labels, and the samples"
    ):
        convert("classifier", small, more)
    assert not (tmp_path / "out").exists()


def test_an_operator_that_an_engine_lacks_is_named_and_the_others_go_on(convert: Convert) -> None:
    engines = "{onnx: {}, openvino: {}, tensorrt: {flavor: rtx}}"
    rows = {row.name: row for row in convert("determinant", engines, shape="[batch, 4, 4]")}
    assert rows["onnx"].status is Status.PASSED
    if rows["openvino"].status is not Status.SKIPPED:
        assert rows["openvino"].status is Status.ERROR
        assert (
            rows["openvino"].reason
            == "OpenVINO cannot read the graph: it has no operator Det-20 (name, opset)"
        )
    if rows["tensorrt"].status is not Status.SKIPPED:
        assert rows["tensorrt"].status is Status.ERROR
        assert "TensorRT's parser refuses the graph:\n  Det node" in str(rows["tensorrt"].reason)


def test_an_operator_of_the_authors_own_is_named(convert: Convert) -> None:
    [row] = convert("custom", "{onnx: {}}")
    assert row.status is Status.ERROR
    assert "this model cannot be exported" in str(row.reason)
    assert "acme.frobnicate" in str(row.reason)


def foreign(path: Path) -> Path:
    """An ONNX file with an operator of a domain that no engine knows."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Frobnicate", ["h"], ["y"], "odd", domain="acme"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("acme", 1)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


@pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed")
def test_a_custom_operator_in_openvino(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"cannot read the graph: it has no operator acme\.Frobnicate"
    ):
        read_graph(foreign(tmp_path / "foreign.onnx"))


@pytest.mark.skipif(not find_spec("tensorrt_rtx"), reason="tensorrt-rtx is not installed")
def test_a_custom_operator_in_tensorrt(tmp_path: Path) -> None:
    import tensorrt_rtx as trt

    network = trt.Builder(quiet_logger(trt)).create_network(0)
    with pytest.raises(
        ExportError, match=r"Frobnicate node 'odd' \(layer head\.odd\): .*Plugin not found"
    ):
        parse(trt, network, foreign(tmp_path / "foreign.onnx"), {"odd": "head.odd"})


def test_a_custom_operator_in_onnx_runtime(artifact_copy: Any) -> None:
    """As in an artifact that another tool wrote into the folder of one of ours."""
    from runtimes.engines.onnx.onnx import OnnxRuntime
    from runtimes.session import SessionOptions

    artifact = artifact_copy("onnx")
    foreign(artifact.entry)
    with pytest.raises(ArtifactError, match="acme::Frobnicate"):
        OnnxRuntime().open(artifact, "cpu", SessionOptions())
