"""Quantized layers of an engine that compute in float, by TensorRT's builder, without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from converters.errors import ExportError
from converters.exporters.job import Exported, ExportJob
from converters.exporters.tensorrt.tensorrt import TensorRtExporter, TensorRtOptions
from converters.graph.unfused.tensorrt import find_unfused_in_tensorrt, listening_logger
from converters.models.facts import ModelFacts
from runtimes.engines.tensorrt import quiet_logger
from runtimes.spec import TensorSpec

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
MakeGraph = Callable[..., onnx.ModelProto]


@pytest.fixture
def export(make_graph: MakeGraph, tmp_path: Path) -> Callable[..., Exported]:
    """Build an engine of a graph's steps."""

    def export(*steps: str) -> Exported:
        onnx.save(make_graph(*steps), tmp_path / "graph.onnx")
        facts = ModelFacts({"x": TensorSpec(shape=(1, 4, 8, 8))}, {}, {}, False, 0)
        job = ExportJob(None, facts, tmp_path, tmp_path / "graph.onnx")
        options = {"format": "tensorrt", "flavor": "rtx", "passes": [{"quantize": "int8"}]}
        return TensorRtExporter().export(job, TensorRtOptions.model_validate(options))

    return export


def test_nothing_is_unfused_if_kernels_read_integers(export: Callable[..., Exported]) -> None:
    exported = export("q", "Conv", "q", "MatMul", "q", "MaxPool", "Conv", "q")
    assert exported.build["compute_layers"] == {"int8": 3}, (
        "also after the largest of dequantized values"
    )
    assert (exported.build["unfused"], exported.notes) == ([], [])


def test_a_layer_after_an_average_of_dequantized_values_is_not_quantized(
    export: Callable[..., Exported],
) -> None:
    with pytest.raises(ExportError, match=r"in int8 \(1 of 2 layers\); not as asked: .* \(fp32\)"):
        export("q", "Conv", "q", "AveragePool", "Conv", "q")


def test_a_transposed_convolution_computes_in_float_whatever_the_graph_says(
    export: Callable[..., Exported],
) -> None:
    exported = export("q", "Conv", "q", "ConvTranspose", "q")
    assert exported.build["compute_layers"] == {"int8": 2}, "of the network"
    assert exported.build["unfused"] == [
        {"layer": "ConvTranspose3", "operator": "DECONVOLUTION", "why": "its kernel reads floats"}
    ]
    (note,) = exported.notes
    assert note.startswith(
        "1 quantized operator computes in float: no kernel fuses it (DECONVOLUTION"
    )


LINE = (
    "Name: conv, LayerType: {kind}, Inputs: [ {{ Name: a, Dimensions: [1,4], Datatype: {reads}, Format: x }}], "
    "Constants: [ {{ Name: w, Dimensions: [4,4], Datatype: Int8, Format: x }}], Outputs: [ {{ Name: b, Dimensions: "
    "[1,4], Datatype: Int8, Format: x }}], Metadata: [ONNX Layer: conv][ONNX Layer: other]"
)


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ([("gemm", "Int8")], 0),
        ([("gemm", "Float")], 1),
        ([("kgen", "Float"), ("gemm", "Int8")], 0),
        ([("kgen", "Int8"), ("gemm", "Float")], 1),
        ([("kgen", "Int8")], 0),
    ],
)
def test_the_kernel_itself_decides_not_what_is_generated_around_it(
    lines: list[tuple[str, str]], count: int
) -> None:
    layer_lines = [LINE.format(kind=kind, reads=reads) for kind, reads in lines]
    unfused = find_unfused_in_tensorrt(
        {"conv": "CONVOLUTION", "unlogged": "CONVOLUTION"}, layer_lines, {"conv": "stem.conv"}
    )
    assert unfused is not None
    assert [operator.layer for operator in unfused] == ["stem.conv"] * count


def test_nothing_is_known_if_the_builder_logs_no_layers() -> None:
    assert find_unfused_in_tensorrt({"conv": "CONVOLUTION"}, [], {}) is None
    assert find_unfused_in_tensorrt({"conv": "CONVOLUTION"}, ["Layers: 3", "conv"], {}) is None


def test_the_log_stays_as_quiet_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    logger, layer_lines = listening_logger(trt, quiet_logger(trt))
    logger.log(trt.ILogger.VERBOSE, "Layers:\nName: conv")
    logger.log(trt.ILogger.VERBOSE, "chatter")
    assert layer_lines == ["Layers:", "Name: conv"]
    logger.log(trt.ILogger.ERROR, "trouble")
    printed = capfd.readouterr()
    assert "trouble" in printed.out + printed.err
    assert "chatter" not in printed.out + printed.err
