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
from converters.plan.provenance import _source_digest, recipe_digest, steps
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
    (one,) = load_recipe(write(_RECIPE.format(artifact=artifact))).artifacts
    return [(step.name, step.parameters) for step in steps(one)]


def test_every_artifact_of_a_build_says_where_it_comes_from(small_build: Path, small_recipe: Path) -> None:
    for manifest in small_build.glob(f"*/{MANIFEST}"):
        made = Artifact.open(manifest.parent).manifest
        found = made.provenance
        assert found is not None
        assert (found.recipe.name, found.recipe.sha256) == (
            "small",
            recipe_digest(load_recipe(small_recipe).recipe),
        )
        assert (found.source.model, found.source.args) == ("python:small_cnn:build", {"width": 8})
        factory = small_recipe.with_name("small_cnn.py").read_bytes()
        assert found.source.sha256 == hashlib.sha256(factory).hexdigest()
        assert (found.weights.name, found.weights.sha256) == ("random:0", None)
        assert len(found.state) == 64
        assert found.steps[-1].parameters["format"] == made.format
        assert found.versions.items() >= {"burnish": made.burnish, **versions()}.items()


def test_artifacts_of_one_build_started_from_one_state(small_build: Path) -> None:
    origins = [Artifact.open(one.parent).manifest.provenance for one in small_build.glob(f"*/{MANIFEST}")]
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
    other = load_recipe(write(text), ["artifacts.onnx.opset=18"]).recipe
    assert recipe_digest(plain) == recipe_digest(same) == recipe_digest(extended)
    assert recipe_digest(other) != recipe_digest(plain)


def test_the_steps_of_a_plain_export(write: Write) -> None:
    assert named(write, "torchscript: {method: trace}") == [
        ("export", {"format": "torchscript", "method": "trace", "optimize_for_inference": True})
    ]


def test_the_steps_of_an_artifact_with_passes_are_in_order_with_their_defaults(write: Write) -> None:
    passes = "[{prune: {structured: 0.5}}, {recover: {minutes: 1, iterative: 2}}, {quantize: int8}]"
    found = named(write, f"small: {{format: openvino, precision: bf16, passes: {passes}}}")
    names = [name for name, _ in found]
    assert names == ["prune", "recover", "prune", "recover", "export-graph", "quantize", "export"]
    assert found[0][1]["structured"] == pytest.approx(1 - 0.5**0.5)
    assert found[1][1]["minutes"] == 0.5
    assert found[4][1] == {"format": "onnx", "opset": 20}
    assert (found[5][1]["to"], found[5][1]["calibrate"]) == ("int8", "auto")
    assert found[6][1] == {"format": "openvino", "precision": "bf16", "hint": "latency", "opset": 20}


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
        ("openvino: {passes: [{prune: {structured: 0.5, of: latency}}]}", "channels by measured latency"),
        ("onnx: {passes: [{prune: {structured: 0.5}}, {recover: logits}]}", "trained for a time"),
    ],
)
def test_what_goes_by_the_clock_says_so(write: Write, artifact: str, why: str | None) -> None:
    text = _RECIPE.format(artifact=artifact).replace("{random: 0}", "{random: 0}\n  training: {random: 1}")
    (one,) = load_recipe(write(text)).artifacts
    found = one.exporter.varies(one.options)
    assert found is None if why is None else why in str(found)


def test_a_format_that_promises_nothing_is_not_deterministic() -> None:
    class Foreign(Exporter):
        format = "foreign"

        def export(self, job: ExportJob, options: ExporterOptions) -> Exported:
            return Exported("model")

    found = Foreign().varies(ExporterOptions(format="foreign"))
    assert found == "foreign does not promise the same bytes each time"


def test_a_factorys_file_is_found_without_running_anything(tmp_path: Path) -> None:
    package = tmp_path / "user_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('run')", encoding="utf-8")
    (package / "inner" / "net.py").write_text("raise SystemExit('run')", encoding="utf-8")
    digest = hashlib.sha256((package / "inner" / "net.py").read_bytes()).hexdigest()
    assert _source_digest("python:user_package.inner.net:build", tmp_path) == digest
    assert _source_digest("python:user_package.inner.none:build", tmp_path) is None
    assert _source_digest("python:user_package.inner:build", tmp_path) is None
    assert _source_digest("torchvision:resnet18", tmp_path) is None
    import torchvision.models.resnet as installed

    digest = hashlib.sha256(Path(installed.__file__).read_bytes()).hexdigest()
    assert _source_digest("python:torchvision.models.resnet:resnet18", tmp_path) == digest
