"""ONNX: names, opset and dynamic dimensions of the recipe; the fallback to TorchScript."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from pydantic import ValidationError
from torch import nn

from converters.errors import ExportError
from converters.exporters.job import Exported, ExportJob
from converters.exporters.onnx import write as module
from converters.exporters.onnx.counts import count_nodes
from converters.exporters.onnx.limits import check_versions
from converters.exporters.onnx.onnx import OnnxExporter, OnnxOptions
from converters.exporters.onnx.optimize import optimize_graph
from converters.exporters.torch.tracing import TracedValues

MakeJob = Callable[..., ExportJob]


def export(job: ExportJob, **options: Any) -> tuple[Exported, onnx.ModelProto]:
    exported = OnnxExporter().export(job, OnnxOptions(format="onnx", **options))
    return exported, onnx.load(str(job.folder / exported.entry))


def run(job: ExportJob, inputs: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    return onnxruntime.InferenceSession(str(job.folder / "model.onnx")).run(None, inputs)


def noise(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def dims_of(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x.mean((2, 3)))


def small_cnn() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), Head())


class Switch(nn.Module):
    """A branch on a weight, which is the same for all inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * float(self.scale) if self.scale > 1 else x


class Branches(nn.Module):
    """Control flow that torch.export refuses."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if bool(x.sum() > 0) else x - 1


class Condition(nn.Module):
    """Control flow that torch.export keeps: an ONNX If with two graphs inside."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))


class Two(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"difference": left - right, "sum": left + right}


class Unused(nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x * 2


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_names_opset_and_dynamic_dimensions_are_the_recipes(
    make_job: MakeJob, exporter: str
) -> None:
    model = small_cnn()
    job = make_job(
        model,
        {"image": ["batch", 3, "side", "side"]},
        {"batch": (1, 8), "side": (4, 12)},
        ["logits"],
    )
    exported, proto = export(job, exporter=exporter, opset=18)
    assert [entry.version for entry in proto.opset_import if entry.domain == ""] == [18]
    (image,), (logits,) = proto.graph.input, proto.graph.output
    assert (image.name, dims_of(image)) == ("image", ["batch", 3, "side", "side"])
    assert (logits.name, dims_of(logits)) == ("logits", ["batch", 2])
    assert (exported.build["exporter"], exported.build["opset"], exported.notes) == (
        exporter,
        18,
        [],
    )
    x = noise(5, 3, 9, 9)
    assert np.allclose(run(job, {"image": x})[0], model(torch.from_numpy(x)).detach(), atol=1e-5)


def test_without_dimensions_every_size_is_fixed(make_job: MakeJob) -> None:
    _, proto = export(make_job(nn.Linear(3, 2), {"x": [1, 3]}))
    assert dims_of(proto.graph.input[0]) == [1, 3]


def test_auto_is_dynamo_and_nodes_keep_the_names_of_their_layers(make_job: MakeJob) -> None:
    exported, proto = export(
        make_job(small_cnn(), {"image": ["batch", 3, 6, 6]}, {"batch": (1, 4)})
    )
    assert (exported.build["exporter"], exported.build["failed"], exported.build["opset"]) == (
        "dynamo",
        {},
        20,
    )
    metadata = [entry for node in proto.graph.node for entry in node.metadata_props]
    assert any("2.proj" in entry.value for entry in metadata if entry.key.endswith("name_scopes"))


@pytest.mark.parametrize(
    ("exporter", "model"),
    [("dynamo", small_cnn), ("torchscript", small_cnn), ("dynamo", Condition)],
)
def test_the_file_says_nothing_of_the_machine_it_was_made_on(
    make_job: MakeJob, exporter: str, model: Callable[[], nn.Module]
) -> None:
    job = make_job(model(), {"x": [2, 3, 6, 6]})
    export(job, exporter=exporter)
    content = (job.folder / "model.onnx").read_bytes()
    path = Path(__file__)
    private = [
        str(path.parent),
        path.name,
        "site-packages",
        str(Path.home()),
        "return x",
        "x.sin()",
        "stack_trace",
    ]
    assert [word for word in private if word.encode() in content] == []


def test_the_torchscript_exporter_takes_over_and_the_reason_is_recorded(make_job: MakeJob) -> None:
    exported, _ = export(make_job(Switch(), {"x": ["batch", 3]}, {"batch": (1, 4)}))
    assert exported.build["exporter"] == "torchscript"
    assert list(exported.build["failed"]) == ["dynamo"]
    assert "the code looks at values" in exported.build["failed"]["dynamo"]
    assert "test_onnx.py, line" in exported.build["failed"]["dynamo"]


def test_the_torchscript_exporter_does_not_take_over_where_values_decide(make_job: MakeJob) -> None:
    with pytest.raises(TracedValues, match="accept it by name"):
        export(make_job(Branches(), {"x": ["batch", 3]}, {"batch": (1, 4)}))


def test_an_exporter_that_was_asked_for_is_the_only_one_tried(make_job: MakeJob) -> None:
    with pytest.raises(ExportError, match=r"this model cannot be exported:\n  dynamo: ") as caught:
        export(make_job(Branches(), {"x": [2, 3]}), exporter="dynamo")
    assert "torchscript:" not in str(caught.value)


def test_several_inputs_go_by_keyword_and_a_dict_names_its_outputs(make_job: MakeJob) -> None:
    job = make_job(Two(), {"right": ["batch", 3], "left": ["batch", 3]}, {"batch": (1, 4)})
    _, proto = export(job)
    assert [value.name for value in proto.graph.input] == ["right", "left"]
    assert [value.name for value in proto.graph.output] == ["difference", "sum"]
    difference, total = run(job, {"right": noise(3, 3), "left": 2 * noise(3, 3)})
    assert np.allclose(difference, noise(3, 3), atol=1e-6)
    assert np.allclose(total, 3 * noise(3, 3), atol=1e-6)


def test_outputs_that_the_recipe_names(make_job: MakeJob) -> None:
    _, proto = export(make_job(Two(), {"left": [1, 3], "right": [1, 3]}, None, ["a", "b"]))
    assert [value.name for value in proto.graph.output] == ["a", "b"]


def test_a_graph_that_lost_an_input_is_refused(make_job: MakeJob) -> None:
    job = make_job(Unused(), {"x": [1, 3], "mask": [1, 3]})
    with pytest.raises(ExportError, match="is an input unused"):
        export(job, exporter="torchscript")


def test_an_opset_that_an_exporter_does_not_know_is_noted(make_job: MakeJob) -> None:
    exported, _ = export(make_job(nn.Linear(3, 2), {"x": [1, 3]}), exporter="torchscript", opset=23)
    assert exported.build["opset"] == 20
    assert exported.notes == ["opset 20 instead of 23"]


def test_weights_above_the_limit_lie_beside_the_file(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_EXTERNAL_DATA_BYTES", 1000)
    model = nn.Linear(40, 10)
    job = make_job(model, {"x": ["batch", 40]}, {"batch": (1, 4)})
    export(job)
    files = {path.name: path.stat().st_size for path in job.folder.iterdir()}
    assert set(files) == {"model.onnx", "model.onnx.data"}
    assert files["model.onnx.data"] >= 1600 > files["model.onnx"] - 1600
    x = noise(3, 40)
    assert np.allclose(run(job, {"x": x})[0], model(torch.from_numpy(x)).detach(), atol=1e-5)


def test_weights_under_the_limit_are_in_the_file(make_job: MakeJob) -> None:
    job = make_job(nn.Linear(40, 10), {"x": [1, 40]})
    export(job)
    assert [path.name for path in job.folder.iterdir()] == ["model.onnx"]


def test_operators_and_the_precision_of_computing_layers_are_counted(make_job: MakeJob) -> None:
    job = make_job(small_cnn(), {"image": [1, 3, 6, 6]})
    exported, proto = export(job)
    counted = {
        kind: sum(node.op_type == kind for node in proto.graph.node)
        for kind in ("Conv", "Relu", "Gemm")
    }
    assert counted.items() <= exported.build["operators"].items()
    assert exported.build["compute_layers"] == {"fp32": 2}
    assert count_nodes(job.folder / "model.onnx").compute_layers == {"fp32": 2}


class Wide(nn.Module):
    """Three layers; `factor` makes what is between the first two large."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.up, self.down, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.down(torch.relu(self.up(x) * self.factor) / self.factor)))


def lower(job: ExportJob, **options: Any) -> tuple[Exported, onnx.ModelProto]:
    """Export as a plan does: first the float32 graph to start from, then the artifact."""
    exporter, settings = OnnxExporter(), OnnxOptions(format="onnx", **options)
    graph = exporter.graph_options(settings)
    assert graph is not None
    folder = job.folder / "graph"
    folder.mkdir()
    exporter.export(replace(job, folder=folder), OnnxOptions(format="onnx", **graph))
    exported = exporter.export(replace(job, model=None, graph=folder / "model.onnx"), settings)
    return exported, onnx.load(str(job.folder / exported.entry))


def test_fp16_computes_in_float16_between_float32_inputs_and_outputs(make_job: MakeJob) -> None:
    model = small_cnn()
    job = make_job(
        model,
        {"image": ["batch", 3, "side", "side"]},
        {"batch": (1, 8), "side": (4, 12)},
        ["logits"],
    )
    exported, proto = lower(job, precision="fp16")
    assert exported.precision == "fp16"
    assert exported.build["compute_layers"] == {"fp16": 2}
    assert exported.build["kept_layers"] == []
    ends = (*proto.graph.input, *proto.graph.output)
    assert [value.type.tensor_type.elem_type for value in ends] == [TensorProto.FLOAT] * 2
    assert dims_of(proto.graph.input[0]) == ["batch", 3, "side", "side"]
    weights = {
        entry.data_type for entry in proto.graph.initializer if entry.name.endswith("weight")
    }
    assert weights == {TensorProto.FLOAT16}
    for shape in ((1, 3, 4, 4), (5, 3, 9, 9)):
        x = noise(*shape)
        assert np.allclose(
            run(job, {"image": x})[0], model(torch.from_numpy(x)).detach(), atol=5e-3
        )
    checked, where = exported.notes
    assert "8 of seeded noise" in checked
    assert "on x86 CPUs ONNX Runtime computes it in float32" in where


def test_layers_beyond_the_range_stay_float32_and_are_named(make_job: MakeJob) -> None:
    job = make_job(Wide(1e6), {"x": ["batch", 4]}, {"batch": (1, 4)})
    exported, _ = lower(job, precision="fp16")
    ranges = exported.build["rewrites"]["cast"]["ranges"]
    assert all(size > 65504 for size in ranges["beyond"].values())
    assert ranges["beyond"]
    assert exported.build["compute_layers"] == {"fp16": 3}, "the layers themselves see small values"
    assert "stay float32" in exported.notes[0]
    x = noise(3, 4)
    assert np.allclose(run(job, {"x": x})[0], job.module(torch.from_numpy(x)).detach(), atol=5e-3)


class Hot(Wide):
    """The first layer itself makes large values."""

    def __init__(self, factor: float) -> None:
        super().__init__(1.0)
        with torch.no_grad():
            self.up.weight *= factor
            self.down.weight /= factor


def test_a_computing_layer_that_stays_float32_is_counted_and_the_precision_holds(
    make_job: MakeJob,
) -> None:
    """The layers that make the values stay float32: more than half of the work may not."""
    model = nn.Sequential(nn.Linear(4, 64), nn.Linear(64, 4), Hot(1e6))
    exported, _ = lower(make_job(model, {"x": ["batch", 4]}, {"batch": (1, 4)}), precision="fp16")
    assert exported.build["compute_layers"] == {"fp16": 3, "fp32": 2}
    assert exported.build["kept_layers"] == ["2.up", "2.down"]


def test_a_graph_that_is_mostly_beyond_the_range_is_no_fp16(make_job: MakeJob) -> None:
    model = nn.Sequential(Hot(1e6).up, nn.Linear(4, 4))
    with pytest.raises(
        ExportError,
        match=r"not fp16: .* 2 stay float32 since values beyond 512",
    ):
        lower(make_job(model, {"x": [2, 4]}), precision="fp16")


def test_bf16_starts_from_the_opset_that_has_it_and_is_for_cuda(make_job: MakeJob) -> None:
    settings = OnnxOptions(format="onnx", precision="bf16")
    assert settings.opset == 22
    assert OnnxOptions(format="onnx").opset == 20
    assert OnnxExporter().runs_on(settings) == ("cuda",)
    assert OnnxExporter().runs_on(OnnxOptions(format="onnx", precision="fp16")) == ("cpu", "cuda")
    job = make_job(small_cnn(), {"image": ["batch", 3, 6, 6]}, {"batch": (1, 4)})
    exported, proto = lower(job, precision="bf16")
    assert exported.build["compute_layers"] == {"bf16": 2}
    assert [
        value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)
    ] == [1, 1]
    assert exported.notes == ["bfloat16 is for CUDA: ONNX Runtime has no kernels for it on the CPU"]


def test_the_cpu_has_no_bf16_kernels(make_job: MakeJob) -> None:
    """Should this fail, ONNX Runtime has them now: bf16 artifacts may run on the CPU too."""
    job = make_job(small_cnn(), {"image": [1, 3, 6, 6]})
    lower(job, precision="bf16")
    with pytest.raises(Exception, match="Could not find an implementation for"):
        run(job, {"image": noise(1, 3, 6, 6)})


def test_bf16_below_the_opset_that_has_it_is_refused(make_job: MakeJob) -> None:
    with pytest.raises(ExportError, match=r"not bf16: .* in bf16 \(1 of 2 layers\)"):
        lower(make_job(small_cnn(), {"image": [1, 3, 6, 6]}), precision="bf16", opset=20)


def test_a_precision_goes_not_together_with_quantization() -> None:
    with pytest.raises(ValidationError, match="precision fp16 cannot be combined with quantize"):
        OnnxOptions(format="onnx", precision="fp16", passes=[{"quantize": "int8"}])
    assert OnnxOptions(format="onnx", precision="fp16").asked_precision == "fp16"
    assert OnnxExporter().graph_options(OnnxOptions(format="onnx")) is None


def test_a_cpu_is_for_static_quantization() -> None:
    static = OnnxOptions(format="onnx", cpu="arm", passes=[{"quantize": "int8"}])
    assert static.cpu == "arm"
    for passes in ([], [{"quantize": "dynamic"}], [{"quantize": "int4"}]):
        with pytest.raises(ValidationError, match="cpu is for static quantization"):
            OnnxOptions(format="onnx", cpu="arm", passes=passes)
        assert OnnxOptions(format="onnx", cpu="auto", passes=passes).cpu == "auto"


@pytest.mark.parametrize(("opset", "ir_version"), [(999, 10), (20, 999)])
def test_versions_that_the_installed_onnx_runtime_does_not_take_are_named(
    opset: int, ir_version: int
) -> None:
    check_versions(20, 10)
    version = onnxruntime.__version__
    words = (
        rf"opset {opset} and IR version {ir_version}; the installed ONNX Runtime {version} takes "
    )
    with pytest.raises(
        ExportError, match=words + r"opsets up to \d+ and IR versions up to \d+"
    ) as caught:
        check_versions(opset, ir_version)
    newest, newest_ir = [int(word) for word in str(caught.value).split() if word.isdigit()][-2:]
    check_versions(newest, newest_ir)
    with pytest.raises(ExportError):
        check_versions(newest + 1, newest_ir)


def test_a_graph_of_a_version_too_new_is_refused_when_it_is_made(make_job: MakeJob) -> None:
    job = make_job(nn.Linear(3, 2), {"x": [1, 3]})
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("x", "output")
    ]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["output"])], "graph", ends[:1], ends[1:]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=999)
    (job.folder / "new.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(
        ExportError, match="opset 20 and IR version 999; the installed ONNX Runtime"
    ):
        OnnxExporter().export(
            replace(job, model=None, graph=job.folder / "new.onnx"),
            OnnxOptions(format="onnx", precision="bf16"),
        )


@pytest.mark.parametrize("level", ["basic", "extended", "all"])
def test_an_optimized_graph_says_what_it_is_bound_to(make_job: MakeJob, level: str) -> None:
    model = small_cnn()
    job = make_job(
        model,
        {"image": ["batch", 3, "side", "side"]},
        {"batch": (1, 8), "side": (4, 12)},
        ["logits"],
    )
    exported, proto = lower(job, optimize=level)
    done = {"basic": "none"}.get(level, level)  # dynamo has folded what there was
    assert (exported.precision, exported.build["optimize"], exported.build["opset"]) == (
        "fp32",
        done,
        20,
    )
    assert exported.build["compute_layers"] == {"fp32": 2}
    assert ("isa" in exported.build, "platform" in exported.build) == (
        level == "all",
        level == "all",
    )
    words = {
        "basic": "changed nothing",
        "extended": "no other engine",
        "all": "laid out for CPUs like this one",
    }
    assert words[level] in exported.notes[0]
    assert dims_of(proto.graph.input[0]) == ["batch", 3, "side", "side"]
    x = noise(5, 3, 9, 9)
    assert np.allclose(run(job, {"image": x})[0], model(torch.from_numpy(x)).detach(), atol=1e-5)


def test_what_is_fused_for_the_cpu_runs_on_the_cpu() -> None:
    devices = {
        level: OnnxExporter().runs_on(OnnxOptions(format="onnx", optimize=level))
        for level in get_args(OnnxOptions.model_fields["optimize"].annotation)
    }
    cpu, both = ("cpu",), ("cpu", "cuda")
    assert devices == {"none": both, "basic": both, "extended": cpu, "all": cpu}


def test_where_there_was_nothing_to_do_nothing_is_bound(make_job: MakeJob) -> None:
    exported, _ = lower(make_job(nn.Linear(3, 2), {"x": [1, 3]}), optimize="all")
    assert exported.build["optimize"] == "none" and "isa" not in exported.build
    assert exported.notes == [
        "optimize: all changed nothing: the exporter had already optimized the graph"
    ]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_only_what_the_cpu_computes_is_optimized(precision: str) -> None:
    with pytest.raises(
        ValidationError, match=f"optimize: basic cannot be combined with precision: {precision}"
    ):
        OnnxOptions(format="onnx", precision=precision, optimize="basic")


def test_the_cpu_provider_writes_its_casts_into_a_float16_graph(
    make_job: MakeJob, tmp_path: Path
) -> None:
    """If this fails, ONNX Runtime's CPU provider computes in float16: optimize such graphs too."""
    job = make_job(small_cnn(), {"image": [1, 3, 6, 6]})
    _, before = lower(job, precision="fp16")
    optimize_graph(job.folder / "model.onnx", tmp_path / "made.onnx", "basic")
    casts = [
        [node.op_type for node in graph.node].count("Cast")
        for graph in (before.graph, onnx.load(str(tmp_path / "made.onnx")).graph)
    ]
    assert casts[1] > casts[0]


def test_optimized_weights_above_the_limit_lie_beside_the_file(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_EXTERNAL_DATA_BYTES", 1000)
    model = nn.Linear(40, 10)
    job = make_job(model, {"x": ["batch", 40]}, {"batch": (1, 4)})
    lower(job, optimize="all")
    assert {path.name for path in job.folder.iterdir() if path.is_file()} == {
        "model.onnx",
        "model.onnx.data",
    }
    x = noise(3, 40)
    assert np.allclose(run(job, {"x": x})[0], model(torch.from_numpy(x)).detach(), atol=1e-5)
