"""TensorRT engines, built for real by TensorRT for RTX, which needs no GPU to build."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from pydantic import ValidationError
from torch import nn

from converters.errors import ExportError
from converters.exporters.base import check_precision
from converters.exporters.job import Exported, ExportJob
from converters.exporters.onnx.onnx import OnnxExporter, OnnxOptions
from converters.exporters.tensorrt import tensorrt as module
from converters.exporters.tensorrt.network import parse
from converters.exporters.tensorrt.tensorrt import (
    TensorRtExporter,
    TensorRtOptions,
    check_work,
    pick_flavor,
)
from converters.models.facts import ModelFacts
from converters.recipe.passes import PassOptions
from runtimes.machine.devices import absent
from runtimes.precision.judge import ComputingLayer
from runtimes.precision.table import Kind
from runtimes.spec import DimRange, TensorSpec

MakeJob = Callable[..., ExportJob]
rtx = pytest.mark.skipif(not find_spec("tensorrt_rtx"), reason="tensorrt-rtx is not installed")
no_gpu = pytest.mark.skipif(absent("cuda") is None, reason="this machine has a GPU")


def options(**values: Any) -> TensorRtOptions:
    return TensorRtOptions(format="tensorrt", **{"flavor": "rtx", **values})


def export(job: ExportJob, **values: Any) -> Exported:
    return TensorRtExporter().export(job, options(**values))


def engine_of(job: ExportJob) -> bytes:
    assert [path.name for path in job.folder.iterdir()] == ["model.engine"], (
        "nothing else is left behind"
    )
    return (job.folder / "model.engine").read_bytes()


@pytest.fixture
def from_module(make_job: MakeJob, tmp_path: Path) -> Callable[..., ExportJob]:
    """Exports a module to ONNX and gives the job that starts from the graph."""

    def make(model: nn.Module, inputs: Any, dims: Any = None, opset: int = 20) -> ExportJob:
        job = make_job(model, inputs, dims)
        OnnxExporter().export(job, OnnxOptions(format="onnx", opset=opset))
        (tmp_path / "engine").mkdir()
        return ExportJob(None, job.facts, tmp_path / "engine", job.folder / "model.onnx")

    return make


@pytest.fixture
def from_nodes(tmp_path: Path) -> Callable[..., ExportJob]:
    """A job that starts from ONNX nodes between the inputs `a`, `b` and the output `y`."""

    def make(
        *nodes: onnx.NodeProto, shape: tuple[int, ...] = (2, 3, 4, 5), output: Any = None
    ) -> ExportJob:
        names = sorted({name for node in nodes for name in node.input} & {"a", "b"})
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, output or shape)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "graph.onnx")
        specs = {name: TensorSpec(shape=shape) for name in names}
        (tmp_path / "engine").mkdir()
        return ExportJob(
            None, ModelFacts(specs, {}, {}, False, 0), tmp_path / "engine", tmp_path / "graph.onnx"
        )

    return make


@rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_is_built_in_the_precision_that_was_asked_for(
    cnn_job: ExportJob, precision: str
) -> None:
    exported = export(cnn_job, precision=precision)
    assert len(engine_of(cnn_job)) > 1000
    assert exported.precision == precision
    assert exported.build["compute_layers"] == {precision: 3}, (
        "two convolutions and one matrix product"
    )
    assert exported.build["operators"]["CONVOLUTION"] == 2
    assert exported.build["flavor"] == "rtx"
    assert exported.build["version"]


@rtx
def test_a_bf16_engine_starts_from_opset_22(from_module: Callable[..., ExportJob]) -> None:
    assert TensorRtExporter().graph_options(options(precision="bf16")) == {
        "opset": 22,
        "exporter": "auto",
    }
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    job = from_module(model, {"image": ["batch", 3, 6, 6]}, {"batch": (1, 4)}, opset=22)
    exported = export(job, precision="bf16")
    assert exported.build["compute_layers"] == {"bf16": 2}
    assert exported.build["rewrites"]["cast"]["kept_float32"] == {}
    assert engine_of(job)


class Hot(nn.Module):
    """Values of a million between the first two of its three layers."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        with torch.no_grad():
            self.down.weight /= 1e6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.down(torch.relu(self.up(x) * 1e6))))


@rtx
def test_what_float16_cannot_hold_stays_float32_in_the_engine(
    from_module: Callable[..., ExportJob],
) -> None:
    job = from_module(Hot(), {"x": ["batch", 4]}, {"batch": (1, 4)})
    exported = export(job, precision="fp16")
    assert exported.build["kept_layers"] == ["down"]
    assert exported.build["compute_layers"] == {"fp16": 2, "fp32": 1}
    assert exported.build["rewrites"]["cast"]["ranges"]["beyond"]["down"] > 65504
    assert "stay float32" in exported.notes[0]
    assert engine_of(job)


@rtx
def test_an_fp16_engine_says_what_its_ranges_were_checked_on(cnn_job: ExportJob) -> None:
    exported = export(cnn_job, precision="fp16")
    assert exported.build["rewrites"]["cast"]["ranges"]["samples"] == "8 of seeded noise"
    assert exported.notes == [
        "no value is beyond 512, float16 ends at 65504 (by 8 of seeded noise)"
    ]
    assert "kept_layers" not in exported.build


@rtx
def test_a_precision_that_is_not_there_is_refused(cnn_job: ExportJob) -> None:
    """At opset 20 ONNX has no bf16 convolution: they stay float32, as the count shows."""
    with pytest.raises(ExportError, match=r"network is not bf16: .* in bf16 \(1 of 3 layers\)"):
        export(cnn_job, precision="bf16")
    assert not (cnn_job.folder / "model.engine").exists()


def test_a_plug_in_may_count_its_layers() -> None:
    check_precision({"fp16": 95, "fp32": 5}, "fp16")
    check_precision({}, "fp16")
    with pytest.raises(
        ExportError, match="not fp16: its 100 computing layers are 80 fp16, 20 fp32"
    ):
        check_precision({"fp16": 80, "fp32": 20}, "fp16")
    with pytest.raises(ExportError, match="not int8"):
        check_precision({"fp32": 1}, "int8")


def test_a_plug_in_takes_off_layers_that_need_not_have_the_precision() -> None:
    check_precision({"int8": 62, "fp32": 12}, "int8", left=12)
    with pytest.raises(ExportError, match="not int8: its 74 computing layers are 12 fp32, 62 int8"):
        check_precision({"int8": 62, "fp32": 12}, "int8")


INT8 = (PassOptions.model_validate({"quantize": "int8"}),)


def computing(kind: Kind = "linear", **counts: int) -> list[ComputingLayer]:
    """Make so many layers of each precision, of one multiply-add each."""
    layers = []
    for precision, count in counts.items():
        layers += [ComputingLayer(precision, precision, kind, precision, 1)] * count
    return layers


def test_nearly_all_of_the_work_must_have_the_precision() -> None:
    check_work(computing(fp16=95, fp32=5), options(precision="fp16"))
    check_work([], options(precision="fp16"))
    with pytest.raises(ExportError, match=r"not fp16: 80.0% of the multiply-adds in fp16 \(80 of"):
        check_work(computing(fp16=80, fp32=20), options(precision="fp16"))
    with pytest.raises(ExportError, match="not int8"):
        check_work(computing(fp32=1), options(passes=INT8))


def test_layers_that_need_not_have_the_precision_are_taken_off() -> None:
    int8 = options(passes=INT8)
    check_work([*computing(int8=62), *computing("product", fp32=12)], int8)
    with pytest.raises(ExportError, match="not as asked: fp32"):
        check_work(computing(int8=62, fp32=12), int8)


@rtx
def test_fixed_shapes_need_no_profile(from_nodes: Callable[..., ExportJob]) -> None:
    job = from_nodes(helper.make_node("Relu", ["a"], ["y"]))
    exported = export(job)
    assert engine_of(job)
    assert exported.notes == ["the network has no convolution or matrix product to count"]


@rtx
def test_the_profile_has_every_dimension_at_its_min_opt_and_max() -> None:
    import tensorrt_rtx as trt

    dims = {"batch": DimRange(min=2, opt=4, max=16), "length": DimRange(min=1, max=9)}
    inputs = {"ids": TensorSpec(shape=("batch", "length", 3)), "fixed": TensorSpec(shape=(5,))}
    profile = module._profile(trt.Builder(trt.Logger(trt.Logger.ERROR)), inputs, dims)
    assert [tuple(shape) for shape in profile.get_shape("ids")] == [
        (2, 1, 3),
        (4, 1, 3),
        (16, 9, 3),
    ]
    assert [tuple(shape) for shape in profile.get_shape("fixed")] == [(5,)] * 3


@rtx
@no_gpu
def test_without_a_gpu_the_engine_is_for_ada(cnn_job: ExportJob) -> None:
    assert export(cnn_job).build["compute_capabilities"] == ["8.9"]


@rtx
def test_one_engine_for_several_compute_capabilities(cnn_job: ExportJob, small_build: Path) -> None:
    wanted = ("8.6", "8.9", "12.0")
    assert export(cnn_job, compute_capabilities=wanted).build["compute_capabilities"] == list(
        wanted
    )
    assert engine_of(cnn_job) != (small_build / "tensorrt" / "model.engine").read_bytes()


@rtx
def test_a_compute_capability_that_does_not_exist(cnn_job: ExportJob) -> None:
    with pytest.raises(
        ExportError, match=r"cannot build for compute capability 99\.9; it supports .*SM89"
    ):
        export(cnn_job, compute_capabilities=("8.9", "99.9"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"compute_capabilities": ("sm_89",)},
        {"compute_capabilities": ("8",)},
        {"precision": "int8"},
        {"flavor": "trt"},
        {"workspace_mb": 0},
        {"optimization_level": 6},
    ],
)
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**wrong)


@rtx
def test_limits_of_the_builder_are_taken(cnn_job: ExportJob) -> None:
    export(cnn_job, workspace_mb=64, optimization_level=0)
    assert engine_of(cnn_job)


class Determinant(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.det(x)


class Solver(nn.Module):
    """TensorRT has no Det operator."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.measure = Determinant()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.measure(self.body(x))


@rtx
def test_an_operator_that_tensorrt_lacks_is_named_with_its_node_and_its_layer(
    from_module: Callable[..., ExportJob],
) -> None:
    job = from_module(Solver(), {"x": [2, 4, 4]})
    (node,) = (node for node in onnx.load(str(job.graph)).graph.node if node.op_type == "Det")
    with pytest.raises(ExportError) as caught:
        export(job)
    first, line = str(caught.value).splitlines()[:2]
    assert first == "TensorRT's parser refuses the graph:"
    assert line == f"  Det node '{node.name}' (layer measure): UNSUPPORTED_NODE: false", (
        "TensorRT's own words"
    )


@rtx
def test_an_einsum_as_maxvit_writes_it_is_rewritten(from_nodes: Callable[..., ExportJob]) -> None:
    nodes = [helper.make_node("Einsum", ["a", "b"], ["y"], equation="B H I D, B H J D -> B H I J")]
    job = from_nodes(*nodes, output=(2, 3, 4, 4))
    exported = export(job)
    assert exported.build["rewrites"]["einsums"] == 1
    assert engine_of(job)


@rtx
def test_which_tensorrt_itself_refuses(from_nodes: Callable[..., ExportJob]) -> None:
    import tensorrt_rtx as trt

    nodes = [
        helper.make_node(
            "Einsum", ["a", "b"], ["y"], equation="B H I D, B H J D -> B H I J", name="attention"
        )
    ]
    job = from_nodes(*nodes, output=(2, 3, 4, 4))
    network = trt.Builder(trt.Logger(trt.Logger.ERROR)).create_network(0)
    with pytest.raises(ExportError, match=r"Einsum node 'attention': .*Invalid character"):
        parse(trt, network, job.graph, {})


@rtx
def test_control_flow_cannot_be_cast(from_nodes: Callable[..., ExportJob]) -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["a"], ["r"])],
        "branch",
        [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, (2, 3, 4, 5))],
    )
    job = from_nodes(
        helper.make_node("ReduceSum", ["a"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    )
    with pytest.raises(ExportError, match="control flow"):
        export(job, precision="fp16")


def test_a_graph_is_needed(cnn_job: ExportJob) -> None:
    with pytest.raises(ExportError, match="needs an ONNX graph"):
        export(ExportJob(None, cnn_job.facts, cnn_job.folder))


@rtx
@no_gpu
def test_auto_is_the_flavor_that_builds_without_a_gpu() -> None:
    assert pick_flavor("auto") == "rtx"
    assert TensorRtExporter().missing(options(flavor="auto")) is None


@no_gpu
def test_the_classic_flavor_says_that_it_needs_a_gpu_and_what_does_not() -> None:
    reason = TensorRtExporter().missing(options(flavor="tensorrt"))
    assert reason is not None
    assert "needs a GPU" in reason
    assert "flavor: rtx builds without one" in reason


def test_a_flavor_that_is_not_installed_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert "pip install 'burnish[tensorrt-rtx]'" in str(
        TensorRtExporter().missing(options(flavor="auto"))
    )


@pytest.mark.gpu
def test_the_timing_cache_of_the_classic_flavor_is_kept(cnn_job: ExportJob, tmp_path: Path) -> None:
    if not find_spec("tensorrt"):
        pytest.skip("the classic tensorrt is not installed")
    cache = tmp_path / "timings"
    export(cnn_job, flavor="tensorrt", timing_cache=str(cache))
    first = cache.read_bytes()
    shutil.rmtree(cnn_job.folder)
    cnn_job.folder.mkdir()
    export(cnn_job, flavor="tensorrt", timing_cache=str(cache))
    assert first
    assert cache.read_bytes()
