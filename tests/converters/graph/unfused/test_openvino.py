"""Quantized operations that OpenVINO executes in float, by its own runtime model."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest

from converters.graph.unfused.openvino import find_unfused_in_openvino
from converters.graph.unfused.report import Unfused
from runtimes.engines.openvino.openvino import properties

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
pytestmark = pytest.mark.cpu
MakeGraph = Callable[..., onnx.ModelProto]
WHY = "it is executed in f32"


def find_unfused(proto: onnx.ModelProto, modules: dict[str, str] | None = None) -> list[Unfused]:
    """Compile a graph as a session does, and find its unfused operations."""
    core = openvino.Core()
    model = core.read_model(proto.SerializeToString(), b"")
    return find_unfused_in_openvino(
        core.compile_model(model, "CPU", properties({}, None)), model, modules or {}
    )


@pytest.mark.parametrize(
    "steps",
    [
        ["q", "Conv", "q", "Conv", "q"],
        ["q", "Conv", "q", "ReduceMean", "q"],
        ["q", "MatMul", "q", "MatMul"],
        ["Sin", "q", "Conv", "q"],
        ["q", "Conv", "q", "Conv"],
        ["q", "float Conv", "q", "Conv", "q"],
    ],
    ids=" ".join,
)
def test_nothing_is_left_where_kernels_take_all_pairs(
    make_graph: MakeGraph, steps: list[str]
) -> None:
    assert find_unfused(make_graph(*steps)) == []


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["q", "Conv", "q", "Sin", "q", "Conv", "q"], ("Sin3", "Math")),
        (["q", "Softmax", "q", "Conv", "q"], ("Softmax1", "Softmax")),
    ],
    ids=str,
)
def test_what_is_executed_in_float_is_named(
    make_graph: MakeGraph, steps: list[str], expected: tuple[str, str]
) -> None:
    assert find_unfused(make_graph(*steps)) == [Unfused(*expected, WHY)]


def test_the_layer_is_named_as_its_author_knows_it(make_graph: MakeGraph) -> None:
    steps = ["q", "Conv", "q", "Sin", "q", "Conv", "q"]
    modules = {"Sin3": "body.wave", "Conv1": "body.conv"}
    assert find_unfused(make_graph(*steps), modules) == [Unfused("body.wave", "Math", WHY)]
