"""ONNX: names, opset and dynamic dimensions as the recipe gives them; which exporter won, and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from converters.exporters import onnx as module
from converters.exporters.base import Exported, ExportError, Job
from converters.exporters.onnx import OnnxExporter, OnnxOptions, count_nodes

MakeJob = Callable[..., Job]


def export(job: Job, **options: Any) -> tuple[Exported, onnx.ModelProto]:
    exported = OnnxExporter().export(job, OnnxOptions(format="onnx", **options))
    return exported, onnx.load(str(job.folder / exported.entry))


def run(job: Job, inputs: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
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
def test_names_opset_and_dynamic_dimensions_are_the_recipes(make_job: MakeJob, exporter: str) -> None:
    model = small_cnn()
    job = make_job(model, {"image": ["batch", 3, "side", "side"]}, {"batch": (1, 8), "side": (4, 12)}, ["logits"])
    exported, made = export(job, exporter=exporter, opset=18)
    assert [entry.version for entry in made.opset_import if entry.domain == ""] == [18]
    (image,), (logits,) = made.graph.input, made.graph.output
    assert (image.name, dims_of(image)) == ("image", ["batch", 3, "side", "side"])
    assert (logits.name, dims_of(logits)) == ("logits", ["batch", 2])
    assert (exported.build["exporter"], exported.build["opset"], exported.notes) == (exporter, 18, [])
    x = noise(5, 3, 9, 9)
    assert np.allclose(run(job, {"image": x})[0], model(torch.from_numpy(x)).detach(), atol=1e-5)


def test_without_dimensions_every_size_is_fixed(make_job: MakeJob) -> None:
    _, made = export(make_job(nn.Linear(3, 2), {"x": [1, 3]}))
    assert dims_of(made.graph.input[0]) == [1, 3]


def test_auto_is_dynamo_and_nodes_keep_the_names_of_their_layers(make_job: MakeJob) -> None:
    exported, made = export(make_job(small_cnn(), {"image": ["batch", 3, 6, 6]}, {"batch": (1, 4)}))
    assert (exported.build["exporter"], exported.build["failed"], exported.build["opset"]) == ("dynamo", {}, 20)
    metadata = [one for node in made.graph.node for one in node.metadata_props]
    assert any("2.proj" in one.value for one in metadata if one.key.endswith("name_scopes"))


@pytest.mark.parametrize(
    ("exporter", "model"), [("dynamo", small_cnn), ("torchscript", small_cnn), ("dynamo", Condition)]
)
def test_the_file_says_nothing_of_the_machine_it_was_made_on(
    make_job: MakeJob, exporter: str, model: Callable[[], nn.Module]
) -> None:
    job = make_job(model(), {"x": [2, 3, 6, 6]})
    export(job, exporter=exporter)
    content = (job.folder / "model.onnx").read_bytes()
    here = Path(__file__)
    private = [str(here.parent), here.name, "site-packages", str(Path.home()), "return x", "x.sin()", "stack_trace"]
    assert [word for word in private if word.encode() in content] == []


def test_the_torchscript_exporter_takes_over_and_the_reason_is_recorded(make_job: MakeJob) -> None:
    exported, _ = export(make_job(Branches(), {"x": ["batch", 3]}, {"batch": (1, 4)}))
    assert exported.build["exporter"] == "torchscript"
    assert list(exported.build["failed"]) == ["dynamo"]
    assert "data-dependent" in exported.build["failed"]["dynamo"]


def test_an_exporter_that_was_asked_for_is_the_only_one_tried(make_job: MakeJob) -> None:
    with pytest.raises(ExportError, match=r"no way to export this model worked:\n  dynamo: ") as caught:
        export(make_job(Branches(), {"x": [2, 3]}), exporter="dynamo")
    assert "torchscript:" not in str(caught.value)


def test_several_inputs_go_by_keyword_and_a_dict_names_its_outputs(make_job: MakeJob) -> None:
    job = make_job(Two(), {"right": ["batch", 3], "left": ["batch", 3]}, {"batch": (1, 4)})
    _, made = export(job)
    assert [value.name for value in made.graph.input] == ["right", "left"]
    assert [value.name for value in made.graph.output] == ["difference", "sum"]
    difference, total = run(job, {"right": noise(3, 3), "left": 2 * noise(3, 3)})
    assert np.allclose(difference, noise(3, 3), atol=1e-6)
    assert np.allclose(total, 3 * noise(3, 3), atol=1e-6)


def test_outputs_that_the_recipe_names(make_job: MakeJob) -> None:
    _, made = export(make_job(Two(), {"left": [1, 3], "right": [1, 3]}, None, ["a", "b"]))
    assert [value.name for value in made.graph.output] == ["a", "b"]


def test_a_graph_that_lost_an_input_is_refused(make_job: MakeJob) -> None:
    job = make_job(Unused(), {"x": [1, 3], "mask": [1, 3]})
    with pytest.raises(ExportError, match="is an input unused"):
        export(job, exporter="torchscript")


def test_an_opset_that_an_exporter_does_not_know_is_noted(make_job: MakeJob) -> None:
    exported, _ = export(make_job(nn.Linear(3, 2), {"x": [1, 3]}), exporter="torchscript", opset=23)
    assert exported.build["opset"] == 20
    assert exported.notes == ["opset 20 instead of 23"]


def test_weights_above_the_limit_lie_beside_the_file(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
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
    exported, made = export(job)
    counted = {kind: sum(node.op_type == kind for node in made.graph.node) for kind in ("Conv", "Relu", "Gemm")}
    assert counted.items() <= exported.build["operators"].items()
    assert exported.build["compute_layers"] == {"fp32": 2}
    assert count_nodes(job.folder / "model.onnx")["compute_layers"] == {"fp32": 2}
