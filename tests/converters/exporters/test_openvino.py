"""OpenVINO IR, written and compiled: names, dimensions, and the precision of the layers."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from converters.build.build import build
from converters.errors import ExportError
from converters.exporters import openvino as module
from converters.exporters.job import Exported, ExportJob
from converters.exporters.onnx.onnx import OnnxExporter, OnnxOptions
from converters.exporters.openvino import OpenVinoExporter, OpenVinoOptions, read_graph
from converters.models.facts import ModelFacts
from converters.plan.load import load_recipe
from runtimes.engines.openvino import openvino as engine
from runtimes.engines.openvino.openvino import count_layers, lacking
from runtimes.machine.intel import INSTALL
from runtimes.results import Status
from runtimes.spec import TensorSpec

MakeJob = Callable[..., ExportJob]
FromModule = Callable[..., ExportJob]
pytestmark = pytest.mark.skipif(
    not find_spec("openvino"), reason=f"openvino is not installed: {INSTALL}"
)


def needs(precision: str) -> pytest.MarkDecorator:
    problem = lacking(precision) if find_spec("openvino") else "openvino is not installed"
    return pytest.mark.skipif(problem is not None, reason=str(problem))


def options(**values: Any) -> OpenVinoOptions:
    return OpenVinoOptions(format="openvino", **values)


def export(job: ExportJob, **values: Any) -> Exported:
    return OpenVinoExporter().export(job, options(**values))


def read(job: ExportJob) -> Any:
    import openvino

    return openvino.Core().read_model(job.folder / "model.xml")


def run(
    job: ExportJob, *inputs: np.ndarray[Any, Any], precision: str = "f32"
) -> list[np.ndarray[Any, Any]]:
    import openvino

    compiled = openvino.Core().compile_model(
        read(job), "CPU", {"INFERENCE_PRECISION_HINT": precision}
    )
    return list(compiled(inputs).to_tuple())


def noise(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def small_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(32, 5)
    )


@pytest.fixture
def from_module(make_job: MakeJob, tmp_path: Path) -> FromModule:
    """Exports a module to ONNX and gives the job that starts from the graph."""

    def make(model: nn.Module, inputs: Any, dims: Any = None, outputs: Any = None) -> ExportJob:
        job = make_job(model, inputs, dims, outputs)
        OnnxExporter().export(job, OnnxOptions(format="onnx"))
        (tmp_path / "ir").mkdir()
        return ExportJob(None, job.facts, tmp_path / "ir", job.folder / "model.onnx")

    return make


class Two(nn.Module):
    """Integers and floats go in, two tensors come out."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4)

    def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        vectors = self.words(ids) * scale
        return {"vectors": vectors, "longest": vectors.abs().sum(-1).argmax(-1)}


class Attention(nn.Module):
    """Two matrix products that OpenVINO fuses into one layer, and one that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(16, 16)

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return self.out((q @ k.transpose(-1, -2) * 0.25).softmax(-1) @ v)


class Unused(nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x * 2


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs("bf16"))])
def test_layers_are_counted_in_the_precision_that_they_are_executed_in(
    cnn_job: ExportJob, precision: str
) -> None:
    exported = export(cnn_job, precision=precision)
    assert sorted(path.name for path in cnn_job.folder.iterdir()) == ["model.bin", "model.xml"]
    assert (exported.entry, exported.precision, exported.notes) == ("model.xml", precision, [])
    assert exported.build["compute_layers"] == {precision: 3}, (
        "two convolutions and one matrix product"
    )
    assert exported.build["operators"]["Convolution"] == 2
    assert exported.build["inference_precision"] == precision
    assert exported.build["version"]


def test_names_and_ranges_are_the_recipes(from_module: FromModule) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    dims = {"batch": (1, 8), "side": (4, 12)}
    job = from_module(model, {"image": ["batch", 3, "side", "side"]}, dims, ["logits"])
    export(job)
    graph = read(job)
    (image,), (logits,) = graph.inputs, graph.outputs
    assert (image.get_names(), str(image.partial_shape)) == ({"image"}, "[1..8,3,4..12,4..12]")
    assert (logits.get_names(), str(logits.partial_shape)) == ({"logits"}, "[1..8,4]")
    x = noise(5, 3, 9, 9)
    assert np.allclose(run(job, x)[0], model(torch.from_numpy(x)).detach(), atol=1e-5), (
        "sizes nobody saw"
    )


def test_without_dimensions_every_size_is_fixed(from_module: FromModule) -> None:
    model = nn.Linear(3, 2)
    job = from_module(model, {"x": [1, 3]})
    assert export(job).build["compute_layers"] == {"fp32": 1}
    assert str(read(job).inputs[0].partial_shape) == "[1,3]"
    assert np.allclose(
        run(job, noise(1, 3))[0], model(torch.from_numpy(noise(1, 3))).detach(), atol=1e-6
    )


def test_integers_and_several_inputs_and_outputs_keep_their_order(from_module: FromModule) -> None:
    model = Two()
    inputs = {
        "scale": TensorSpec(shape=("batch", 1, 1)),
        "ids": TensorSpec(shape=("batch", 6), dtype="int64", range=(0, 6)),
    }
    job = from_module(model, inputs, {"batch": (1, 8)})
    exported = export(job)
    assert exported.notes == ["the model has no convolution or matrix product to count"]
    graph = read(job)
    assert [port.get_any_name() for port in (*graph.inputs, *graph.outputs)] == [
        "scale",
        "ids",
        "vectors",
        "longest",
    ]
    ids = np.random.default_rng(0).integers(0, 7, (5, 6))
    vectors, longest = run(job, noise(5, 1, 1), ids)
    wanted = model(torch.from_numpy(ids), torch.from_numpy(noise(5, 1, 1)))
    assert np.allclose(vectors, wanted["vectors"].detach(), atol=1e-6)
    assert longest.dtype == np.int64 and (longest == wanted["longest"].numpy()).all()


def test_an_input_that_the_model_ignores_stays_one(from_module: FromModule) -> None:
    job = from_module(Unused(), {"x": ["batch", 3], "mask": ["batch", 3]}, {"batch": (1, 4)})
    export(job)
    assert np.array_equal(run(job, noise(3, 3), noise(3, 3))[0], 2 * noise(3, 3))


@pytest.mark.parametrize(
    ("model", "inputs", "count"),
    [
        (small_cnn(), {"image": ["batch", 3, 6, 6]}, 3),
        (nn.ConvTranspose2d(3, 4, 3), {"image": ["batch", 3, 6, 6]}, 1),
        (nn.Conv1d(4, 8, 3, groups=2), {"sound": ["batch", 4, 9]}, 1),
        (Attention(), {name: ["batch", 2, 8, 16] for name in "qkv"}, 2),
    ],
    ids=["grouped", "transposed", "one-dimensional", "attention"],
)
def test_every_kind_of_computing_layer_is_counted(
    from_module: FromModule, model: nn.Module, inputs: Any, count: int
) -> None:
    exported = export(from_module(model, inputs, {"batch": (1, 4)}))
    assert exported.build["compute_layers"] == {"fp32": count}


@needs("bf16")
def test_weights_are_stored_as_bf16_with_the_same_numbers(
    from_module: FromModule, tmp_path: Path
) -> None:
    """The engine rounds them the same way; float16 would lose small values, as in MobileNetV2."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 300), nn.ReLU(), nn.Linear(300, 7))
    nn.init.normal_(model[1].weight, std=1e-8)
    job = from_module(model, {"image": ["batch", 3, 8, 8]}, {"batch": (1, 4)})
    export(job)
    x, size = noise(2, 3, 8, 8), (job.folder / "model.bin").stat().st_size
    rounded = run(job, x, precision="bf16")[0]
    exact = run(job, x, precision="f32")[0]
    export(job, precision="bf16")
    assert (job.folder / "model.bin").stat().st_size < 0.55 * size
    assert np.array_equal(run(job, x, precision="bf16")[0], rounded)
    assert not np.array_equal(rounded, exact)


def test_fp16_weights_are_stored_as_fp16(from_module: FromModule) -> None:
    job = from_module(nn.Linear(300, 300), {"x": ["batch", 300]}, {"batch": (1, 4)})
    export(job)
    size = (job.folder / "model.bin").stat().st_size
    assert export(job, precision="fp16").precision == "fp16"
    assert (job.folder / "model.bin").stat().st_size < 0.55 * size


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_precision_that_this_cpu_lacks_is_written_and_not_counted(
    cnn_job: ExportJob, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setattr(engine, "_capabilities", lambda plugin: ("FP32", "INT8"))
    exported = export(cnn_job, precision=precision)
    assert "compute_layers" not in exported.build
    assert exported.notes == [
        f"the precision of the layers is not counted: this CPU does not compute in {precision} (it "
        "does in fp32), so OpenVINO would use another one here"
    ]


@pytest.mark.skipif(
    not find_spec("openvino") or lacking("fp16") is None,
    reason="this CPU computes in fp16, or openvino is missing",
)
def test_what_openvino_takes_in_its_place_is_seen(
    cnn_job: ExportJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for fp16 on a CPU without it, OpenVINO compiles for bf16 or fp32, and says nothing.

    With AVX2 alone it executes fp16 after all, though it does not list it among its capabilities:
    what it executes is what counts.
    """
    monkeypatch.setattr(module, "lacking", lambda precision: None)
    try:
        exported = export(cnn_job, precision="fp16")
    except ExportError as error:
        assert re.search(r"is not fp16: .*not as asked: .* \((bf16|fp32)\)", str(error))
    else:
        compiled, saved, _ = module._compiled(cnn_job, exported.build)
        assert module.count_layers(compiled, saved)["compute_layers"] == {"fp16": 3}
        assert exported.build["compute_layers"] == {"fp16": 3}


def test_a_quantized_graph_is_executed_in_integers(cnn_job: ExportJob, tmp_path: Path) -> None:
    import onnx

    nncf = pytest.importorskip(
        "nncf", reason="nncf is not installed: pip install 'burnish[quantize]'"
    )
    import openvino

    graph = onnx.load(str(cnn_job.graph))
    samples = [{"image": noise(1, 3, 32, 32)} for _ in range(4)]
    onnx.save(nncf.quantize(graph, nncf.Dataset(samples), subset_size=4), tmp_path / "int8.onnx")
    model = read_graph(tmp_path / "int8.onnx")
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert count_layers(compiled, model)["compute_layers"] == {"int8": 3}
    quantized = ExportJob(None, cnn_job.facts, cnn_job.folder, tmp_path / "int8.onnx")
    with pytest.raises(
        ExportError, match=r"is not fp32: .* in fp32 \(0 of 3 layers\); not as asked: .* \(int8\)"
    ):
        export(quantized)


class MaskedAttention(nn.Module):
    """Attention of a sequence to itself, -Inf where it is masked."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            part.unflatten(-1, (2, 8)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1)
        )
        scores = query @ key.transpose(-1, -2) / 8**0.5
        scores = scores.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
        return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


def test_a_mask_inside_of_fused_attention_makes_no_bytes_of_it(from_module: FromModule) -> None:
    mask = TensorSpec(shape=("batch", "time"), dtype="int64", kind="mask")
    dims = {"batch": (1, 4), "time": (12, 40)}
    job = from_module(MaskedAttention(), {"x": ["batch", "time", 16], "mask": mask}, dims)
    assert set(export(job).build["compute_layers"]) == {"fp32"}


def test_the_files_say_nothing_of_the_machine_they_were_made_on(from_module: FromModule) -> None:
    job = from_module(small_cnn(), {"image": [2, 3, 6, 6]})
    export(job)
    content = (job.folder / "model.xml").read_text(encoding="utf-8")
    names = [
        str(Path(__file__).parent),
        str(job.folder),
        "site-packages",
        str(Path.home()),
        "model.onnx",
    ]
    assert [word for word in names if word in content] == []


def test_a_graph_is_needed(cnn_job: ExportJob) -> None:
    with pytest.raises(ExportError, match="needs an ONNX graph"):
        export(ExportJob(None, cnn_job.facts, cnn_job.folder))


def test_a_graph_that_cannot_be_read_is_told_in_openvinos_words(
    cnn_job: ExportJob, tmp_path: Path
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a graph")
    with pytest.raises(ExportError, match=r"OpenVINO cannot read the graph: .+"):
        export(ExportJob(None, cnn_job.facts, cnn_job.folder, tmp_path / "broken.onnx"))


def test_a_graph_with_other_names_is_refused(cnn_job: ExportJob) -> None:
    facts = ModelFacts(
        {"picture": TensorSpec(shape=(1, 3, 32, 32))}, cnn_job.facts.outputs, {}, False, 0
    )
    with pytest.raises(ExportError, match=r"are named \[\['image'\]\], not \['picture'\]"):
        export(ExportJob(None, facts, cnn_job.folder, cnn_job.graph))


@pytest.mark.parametrize(
    "wrong", [{"precision": "int8"}, {"hint": "fast"}, {"opset": 3}, {"device": "gpu"}]
)
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**wrong)


def test_options_go_into_the_manifest(cnn_job: ExportJob) -> None:
    assert OpenVinoExporter().graph_options(options(opset=18)) == {"opset": 18, "exporter": "auto"}
    build_entries = export(cnn_job, hint="throughput", opset=18).build
    assert (build_entries["hint"], build_entries["opset"]) == ("throughput", 18)


def test_without_the_package_the_artifact_is_skipped_with_the_command(
    small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    settings = [
        "artifacts.torchscript=null",
        "artifacts.onnx=null",
        "artifacts.tensorrt=null",
        "artifacts.openvino.hint=latency",
    ]
    (row,) = build(load_recipe(small_recipe, settings), tmp_path / "out", budget=0).artifacts
    assert (row.name, row.status) == ("openvino", Status.SKIPPED)
    assert row.reason == "openvino is not installed: pip install 'burnish[openvino]'"
