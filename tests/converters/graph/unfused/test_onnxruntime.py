"""Quantized operators that ONNX Runtime computes in float, by its own optimized graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir
import pytest

from converters.errors import ExportError
from converters.graph.lower import lower_for_onnxruntime
from converters.graph.unfused.onnxruntime import find_unfused_in_onnxruntime
from converters.graph.unfused.report import Unfused
from runtimes.machine.machine import Cpu

MakeGraph = Callable[..., onnx.ModelProto]
RESULT, KERNEL = "its result is not quantized", "there is no integer kernel for it"
INPUT = "it also reads values that are not quantized"


def find_unfused(proto: onnx.ModelProto, folder: Path, cpu: Cpu) -> list[Unfused]:
    """Lower a graph for `cpu`, and find its unfused operators."""
    model = onnx_ir.from_proto(proto)
    lower_for_onnxruntime(model, cpu)
    onnx_ir.save(model, str(folder / "lowered.onnx"))
    return find_unfused_in_onnxruntime(folder / "lowered.onnx", cpu)


@pytest.mark.parametrize("cpu", ["x86", "arm"])
@pytest.mark.parametrize(
    "steps",
    [
        ["q", "Conv", "q", "Conv", "q"],
        ["q8", "Conv", "q", "MaxPool", "Conv", "q8"],
        ["q", "MatMul", "q", "MatMul"],
        ["q", "Softmax", "q"],
        ["Sin", "q", "Conv", "q"],
        ["q", "Conv", "q", "Transpose"],
    ],
    ids=" ".join,
)
def test_nothing_is_left_where_kernels_take_all_pairs_but_those_at_the_ends(
    make_graph: MakeGraph, tmp_path: Path, steps: list[str], cpu: Cpu
) -> None:
    assert find_unfused(make_graph(*steps), tmp_path, cpu) == []


@pytest.mark.parametrize("cpu", ["x86", "arm"])
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["q", "Conv", "q", "Conv"], [("Conv3", "Conv", RESULT)]),
        (["q", "Conv", "HardSwish", "q", "Conv", "q"], [("Conv1", "Conv", RESULT)]),
        (["q", "Conv", "q", "Sin", "q", "Conv", "q"], [("Sin3", "Sin", KERNEL)]),
        (["q", "Conv", "q", "ReduceMean", "q"], [("ReduceMean3", "ReduceMean", KERNEL)]),
        (["q", "Conv", "q", "Transpose", "Sin"], [("Sin4", "Sin", RESULT)]),
        (["q", "Conv", "q", "Add", "q"], [("Add3", "Add", INPUT)]),
        (["Conv", "q", "Conv", "q"], [("Conv0", "Conv", INPUT)]),
    ],
    ids=str,
)
def test_what_computes_in_float_is_named_with_the_reason(
    make_graph: MakeGraph,
    tmp_path: Path,
    steps: list[str],
    expected: list[tuple[str, str, str]],
    cpu: Cpu,
) -> None:
    assert find_unfused(make_graph(*steps), tmp_path, cpu) == [
        Unfused(*fields) for fields in expected
    ]


@pytest.mark.parametrize("layer", ["float Conv", "float MatMul"])
def test_a_layer_that_stays_float_on_purpose_is_not_counted(
    make_graph: MakeGraph, tmp_path: Path, layer: str
) -> None:
    assert (
        find_unfused(make_graph("q", "Conv", "q", layer, "q", "Conv", "q"), tmp_path, "x86") == []
    )


def test_the_layer_is_named_as_its_author_knows_it(make_graph: MakeGraph, tmp_path: Path) -> None:
    proto = make_graph("q", "Conv", "Relu", "Sin")
    (convolution,) = (node for node in proto.graph.node if node.op_type == "Conv")
    convolution.metadata_props.add(
        key="pkg.torch.onnx.name_scopes", value="['', 'stem.conv', 'conv2d']"
    )
    (operator,) = find_unfused(proto, tmp_path, "x86")
    assert (operator.layer, operator.operator) == ("stem.conv", "FusedConv"), (
        "with the Relu it is one operator"
    )


def test_fusions_are_those_of_the_cpu_that_the_graph_is_for(
    make_graph: MakeGraph, tmp_path: Path
) -> None:
    """Of int8 that two operators read, only Arm's kernels make use, whatever this machine is."""
    proto = make_graph("q8", "Conv", "q8", "Conv", "q8")
    first = next(node for node in proto.graph.node if node.name == "dequantize2")
    proto.graph.node.add().CopyFrom(
        onnx.helper.make_node("DequantizeLinear", list(first.input), ["also"], name="also")
    )
    proto.graph.output.add().CopyFrom(
        onnx.helper.make_tensor_value_info("also", onnx.TensorProto.FLOAT, None)
    )
    path = tmp_path / "graph.onnx"
    onnx.save(proto, path)
    assert find_unfused_in_onnxruntime(path, "arm") == []
    assert [operator.operator for operator in find_unfused_in_onnxruntime(path, "x86")] == [
        "Conv"
    ] * 2


def test_a_graph_that_onnx_runtime_cannot_load(make_graph: MakeGraph, tmp_path: Path) -> None:
    proto = make_graph("q", "Conv", "q")
    proto.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(proto, tmp_path / "broken.onnx")
    with pytest.raises(
        ExportError, match=r"ONNX Runtime cannot load the lowered graph: .*NoSuchOperator"
    ):
        find_unfused_in_onnxruntime(tmp_path / "broken.onnx", "x86")
