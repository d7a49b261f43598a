"""A manifest says where its artifact comes from, and nothing of where or when it was made."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.exporters import EXPORTERS
from converters.exporters.base import Exporter
from converters.exporters.job import Exported, ExportJob
from converters.plan.load import load_recipe
from converters.plan.provenance import _factory_digest, recipe_digest, step_records
from converters.recipe.artifact import ExporterOptions
from runtimes.artifact.artifact import MANIFEST, Artifact
from runtimes.machine.machine import versions

Write = Callable[..., Path]

_RECIPE = """
model: torchvision:resnet18
inputs:
  image: {{shape: [1, 3, 64, 64]}}
data:
  calibration: {{random: 0}}
artifacts:
  {artifact}
"""


def named(write: Write, artifact: str) -> list[tuple[str, dict[str, object]]]:
    """The steps of a recipe's only artifact."""
    (plan,) = load_recipe(write(_RECIPE.format(artifact=artifact))).artifacts
    return [(step.name, step.parameters) for step in step_records(plan)]


def test_every_artifact_of_a_build_says_where_it_comes_from(
    small_build: Path, small_recipe: Path
) -> None:
    for manifest in small_build.glob(f"*/{MANIFEST}"):
        opened = Artifact.open(manifest.parent).manifest
        origin = opened.provenance
        assert origin is not None
        assert (origin.recipe.name, origin.recipe.sha256) == (
            "small",
            recipe_digest(load_recipe(small_recipe).recipe),
        )
        assert (origin.source.model, origin.source.args) == ("python:small_cnn:build", {"width": 8})
        factory = small_recipe.with_name("small_cnn.py").read_bytes()
        assert origin.source.sha256 == hashlib.sha256(factory).hexdigest()
        assert (origin.weights.name, origin.weights.sha256) == ("random:0", None)
        assert len(origin.state) == 64
        assert origin.steps[-1].parameters["format"] == opened.format
        assert origin.versions.items() >= {"burnish": opened.burnish, **versions()}.items()


def test_artifacts_of_one_build_started_from_one_state(small_build: Path) -> None:
    artifacts = [Artifact.open(path.parent) for path in small_build.glob(f"*/{MANIFEST}")]
    origins = [artifact.manifest.provenance for artifact in artifacts]
    assert len({origin.state for origin in origins if origin}) == 1


def test_no_manifest_names_a_folder_of_this_machine(
    small_build: Path, quantized_build: Path, compiled_build: Path, small_recipe: Path
) -> None:
    for build in (small_build, quantized_build, compiled_build):
        for manifest in build.glob(f"*/{MANIFEST}"):
            text = manifest.read_text(encoding="utf-8")
            for folder in (build, small_recipe.parent, Path.home(), Path(__file__).parent):
                assert str(folder) not in text


def test_the_digest_of_a_recipe_is_of_what_it_means(write: Write) -> None:
    text = _RECIPE.format(artifact="onnx: {}")
    plain = load_recipe(write(text)).recipe
    same = load_recipe(write("# a remark\nseed: 0\n" + text, "same.yaml")).recipe
    extended = load_recipe(write("extends: recipe\n", "extended.yaml")).recipe
    changed = load_recipe(write(text), ["artifacts.onnx.opset=18"]).recipe
    assert recipe_digest(plain) == recipe_digest(same) == recipe_digest(extended)
    assert recipe_digest(changed) != recipe_digest(plain)


def test_the_steps_of_a_plain_export(write: Write) -> None:
    assert named(write, "torchscript: {method: trace}") == [
        ("export", {"format": "torchscript", "method": "trace", "optimize_for_inference": True})
    ]


def test_the_steps_of_an_artifact_with_passes_are_in_order_with_their_defaults(
    write: Write,
) -> None:
    passes = "[{prune: {structured: 0.5}}, {recover: {minutes: 1, iterative: 2}}, {quantize: int8}]"
    steps = named(write, f"small: {{format: openvino, precision: bf16, passes: {passes}}}")
    names = [name for name, _ in steps]
    assert names == ["prune", "recover", "prune", "recover", "export-graph", "quantize", "export"]
    assert steps[0][1]["structured"] == pytest.approx(1 - 0.5**0.5)
    assert steps[1][1]["minutes"] == 0.5
    assert steps[4][1] == {"format": "onnx", "exporter": "auto", "opset": 20}
    assert (steps[5][1]["to"], steps[5][1]["calibrate"]) == ("int8", "auto")
    assert steps[6][1] == {
        "format": "openvino",
        "precision": "bf16",
        "hint": "latency",
        "exporter": "auto",
        "opset": 20,
    }


@pytest.mark.parametrize("name", EXPORTERS.names())
def test_every_format_has_its_export_as_the_last_step(write: Write, name: str) -> None:
    assert named(write, f"{name}: {{}}")[-1][1]["format"] == name


@pytest.mark.parametrize(
    ("artifact", "why"),
    [
        ("torchscript: {}", None),
        ("torch-export: {}", None),
        ("onnx: {optimize: all}", None),
        ("onnx: {passes: [{quantize: int8}]}", None),
        ("onnx: {passes: [{prune: {structured: 0.5}}, {recover: batchnorm}]}", None),
        ("openvino: {precision: bf16}", None),
        ("tensorrt: {flavor: rtx}", None),
        ("aot-inductor: {autotune: false}", None),
        ("aot-inductor: {}", "autotune chooses matrix products by timing them"),
        ("tensorrt: {flavor: tensorrt}", "TensorRT chooses kernels by timing them"),
        ("torch-tensorrt: {}", "TensorRT chooses kernels by timing them"),
        (
            "onnx: {passes: [{quantize: {to: int8, max_drop: 1, metric: sqnr}}]}",
            "layers float by the time that they take",
        ),
        (
            "openvino: {passes: [{prune: {structured: 0.5, of: latency}}]}",
            "channels by measured latency",
        ),
        ("onnx: {passes: [{prune: {structured: 0.5}}, {recover: logits}]}", "trained for a time"),
    ],
)
def test_formats_and_passes_that_measure_time_say_so(
    write: Write, artifact: str, why: str | None
) -> None:
    text = _RECIPE.format(artifact=artifact).replace(
        "{random: 0}", "{random: 0}\n  training: {random: 1}"
    )
    (plan,) = load_recipe(write(text)).artifacts
    reason = plan.exporter.varies(plan.options)
    assert reason is None if why is None else why in str(reason)


def test_a_format_that_promises_nothing_is_not_deterministic() -> None:
    class Foreign(Exporter):
        format = "foreign"

        def export(self, job: ExportJob, options: ExporterOptions) -> Exported:
            return Exported("model")

    reason = Foreign().varies(ExporterOptions(format="foreign"))
    assert reason == "foreign does not promise the same bytes each time"


def test_a_factorys_file_is_found_without_running_anything(tmp_path: Path) -> None:
    package = tmp_path / "user_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('run')", encoding="utf-8")
    (package / "inner" / "net.py").write_text("raise SystemExit('run')", encoding="utf-8")
    digest = hashlib.sha256((package / "inner" / "net.py").read_bytes()).hexdigest()
    assert _factory_digest("python:user_package.inner.net:build", tmp_path) == digest
    assert _factory_digest("python:user_package.inner.none:build", tmp_path) is None
    assert _factory_digest("python:user_package.inner:build", tmp_path) is None
    assert _factory_digest("torchvision:resnet18", tmp_path) is None
    import torchvision.models.resnet as installed

    digest = hashlib.sha256(Path(installed.__file__).read_bytes()).hexdigest()
    assert _factory_digest("python:torchvision.models.resnet:resnet18", tmp_path) == digest
