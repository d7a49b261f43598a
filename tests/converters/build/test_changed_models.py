"""Passes on the model in a whole build: pruned, recovered, quantized; judged, kept by content, judged again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import burnish
from burnish.debug import debug
from converters.build.build import build
from converters.build.options import BuildOptions
from converters.plan.load import load_recipe
from runtimes.artifact.artifact import Artifact
from runtimes.files.layout import REFERENCE_FILE
from runtimes.results import Build, Row, Status
from runtimes.validator.reference import Reference

pytest.importorskip("torch_pruning", reason="structured pruning needs it")

RECIPE = """
extends: small
args: {width: 32}
data:
  calibration: {arrays: taught.npy, samples: 16}
  evaluation: {arrays: taught.npy, samples: 24}
gates: {top1_agreement: 0}
artifacts:
  torchscript: null
  tensorrt: null
  onnx: {}
  small: {format: onnx, passes: [{prune: {structured: 0.5}}]}
  taught:
    format: onnx
    passes: [{prune: {structured: 0.5}}, {recover: {epochs: 3, batch: 16, minutes: 1}}]
  taught-int8:
    format: onnx
    gates: {parent_speedup: 0}
    passes: [{prune: {structured: 0.5}}, {recover: {epochs: 3, batch: 16, minutes: 1}}, {quantize: int8}]
  aware-int8:
    format: openvino
    gates: {parent_speedup: null, parent_size: null}
    passes:
      - prune: {structured: 0.5}
      - recover: {aware: true, epochs: 3, batch: 16, minutes: 1}
      - quantize: int8
  turns:
    format: torchscript
    passes: [{prune: {structured: 0.4}}, {recover: {epochs: 2, iterative: 2, batch: 16, minutes: 1}}]
  sparse: {format: tensorrt, flavor: rtx, precision: fp16, passes: [{prune: {pattern: "2:4"}}]}
  zeros: {format: onnx, passes: [{prune: {unstructured: 0.7}}]}
"""


@pytest.fixture(scope="module")
def recipe(small_recipe: Path) -> Path:
    samples = np.random.default_rng(3).normal(0, 1, (120, 3, 32, 32)).astype(np.float32)
    np.save(small_recipe.with_name("taught.npy"), samples)
    path = small_recipe.with_name("changed.yaml")
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def changed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("changed") / "build"
    build(load_recipe(recipe), output, budget=0, options=BuildOptions(cache=True))
    return output


def rows(folder: Path) -> dict[str, Row]:
    return {row.name: row for row in Build.read(folder).artifacts}


def passes(folder: Path, name: str) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = Artifact.open(folder / name).manifest.build["passes"]
    return reports


def test_every_artifact_is_true_to_the_model_that_it_was_made_from(changed: Path) -> None:
    judged = rows(changed)
    assert {name: row.status for name, row in judged.items()} == {
        **dict.fromkeys(judged, Status.PASSED),
        "sparse": judged["sparse"].status,
    }
    assert judged["sparse"].status in (Status.BUILT, Status.SKIPPED, Status.PASSED)
    for name in ("small", "taught", "turns", "zeros"):
        assert judged[name].parity.noise is not None
        assert judged[name].parity.noise < 16
        assert judged[name].parity.original_sqnr_db is not None
        assert judged[name].parity.original_sqnr_db < 60, "another function than the original"
    assert judged["onnx"].parity.original_sqnr_db is None


def test_a_pruned_artifact_is_smaller_in_every_respect(changed: Path) -> None:
    whole, small = (Artifact.open(changed / name) for name in ("onnx", "small"))
    assert small.size_bytes < 0.8 * whole.size_bytes
    assert small.manifest.build["flops"] < 0.62 * whole.manifest.build["flops"]
    assert small.manifest.build["parameters"] < whole.manifest.build["parameters"]
    [report] = passes(changed, "small")
    assert report["prune"]["options"] == {"structured": 0.5}
    assert report["prune"]["after"]["macs"] * 2 == small.manifest.build["flops"]
    assert report["prune"]["before"]["macs"] * 2 == whole.manifest.build["flops"]
    assert any("of the multiply-adds" in note for note in rows(changed)["small"].notes)


def test_the_size_gate_compares_with_the_same_format_if_the_recipe_has_it(changed: Path) -> None:
    sizes = {}
    for name, row in rows(changed).items():
        for gate in row.gates:
            if gate.gate == "size":
                sizes[name] = gate
    assert list(sizes) == ["small", "taught", "taught-int8", "turns"]
    assert all(gate.ok for gate in sizes.values())
    assert "of onnx's on disk" in sizes["small"].detail
    assert "of the weights before" in sizes["turns"].detail, (
        "the recipe has no TorchScript without passes"
    )


def test_zeros_make_nothing_smaller_and_the_report_says_so(changed: Path) -> None:
    whole, zeros = (Artifact.open(changed / name) for name in ("onnx", "zeros"))
    assert zeros.manifest.build["flops"] == whole.manifest.build["flops"]
    [report] = passes(changed, "zeros")
    assert report["prune"]["after"]["zeros"] > 0.6
    assert (
        report["prune"]["after"]["compressed_bytes"]
        < 0.7 * report["prune"]["before"]["compressed_bytes"]
    )
    assert any(
        "dense engines, which all of these are, gain no speed" in note
        for note in rows(changed)["zeros"].notes
    )


def test_a_model_of_quantization_aware_training_is_quantized(changed: Path) -> None:
    row = rows(changed)["aware-int8"]
    _, recover, quantize = passes(changed, "aware-int8")
    assert list(quantize) == ["quantize"]
    assert recover["recover"]["options"]["aware"] is True
    assert recover["recover"]["after"] < recover["recover"]["before"]
    assert row.parity.original_sqnr_db is not None
    pruned = rows(changed)["small"].parity.original_sqnr_db
    assert pruned is not None
    assert row.parity.original_sqnr_db > pruned, "trained int8 is nearer than untrained float"


def test_a_recovered_model_is_nearer_to_the_original(changed: Path) -> None:
    judged = rows(changed)
    before, after = (judged[name].parity.original_sqnr_db for name in ("small", "taught"))
    assert before is not None
    assert after is not None
    assert after > before
    prune, recover = passes(changed, "taught")
    assert recover["recover"]["after"] < recover["recover"]["before"]
    assert recover["recover"]["samples"] + recover["recover"]["held_back"] == 96, (
        "evaluation samples are left out"
    )
    assert prune == passes(changed, "small")[0], "the same pass over the same model is done once"


def test_a_pruned_and_recovered_model_is_quantized(changed: Path) -> None:
    manifest = Artifact.open(changed / "taught-int8").manifest
    assert [next(iter(report)) for report in manifest.build["passes"]] == [
        "prune",
        "recover",
        "quantize",
    ]
    assert manifest.precision == "int8"
    assert manifest.build["compute_layers"]["int8"] >= 2


def test_iterative_prune_and_recover(changed: Path) -> None:
    assert [next(iter(report)) for report in passes(changed, "turns")] == ["prune", "recover"] * 2
    whole, turned = (
        Artifact.open(changed / name).manifest.build["flops"] for name in ("onnx", "turns")
    )
    assert 0.4 * whole < turned < 0.75 * whole, (
        "of 0.6, in coarse steps: the layers have 32 and 64 channels"
    )


def test_the_pattern_is_checked_in_the_graph_that_the_engine_is_built_from(changed: Path) -> None:
    if rows(changed)["sparse"].status is Status.SKIPPED:
        pytest.skip(f"no engine: {rows(changed)['sparse'].reason}")
    sparse = Artifact.open(changed / "sparse").manifest.build["rewrites"]["sparse_layers"]
    assert 0 < sparse["follow"] <= sparse["of"]


def test_changed_models_are_published_with_the_build(changed: Path) -> None:
    manifest = Artifact.open(changed / "taught").manifest
    folder = changed / manifest.build["changed"]
    assert {"state.pt", "structure.json", REFERENCE_FILE} <= {
        path.name for path in folder.iterdir()
    }
    reference = Reference.load(folder / REFERENCE_FILE)
    assert reference.original is not None
    assert len(reference.original) == len(reference.eager)
    assert reference.decisions is reference.original
    plain = Reference.load(changed / REFERENCE_FILE)
    for original, eager in zip(reference.original, plain.eager, strict=True):
        assert np.array_equal(original["logits"], eager["logits"])


def test_artifacts_of_changed_models_are_judged_again_later(changed: Path) -> None:
    second = {row.name: row for row in burnish.validate(changed, speed=False).artifacts}
    first = rows(changed)
    assert second.keys() == first.keys()
    for name, row in first.items():
        assert second[name].status == row.status
    assert second["taught"].parity == first["taught"].parity


@pytest.mark.parametrize("name", ["small", "turns"])
def test_a_changed_artifact_is_debugged_against_the_changed_model(
    changed: Path, recipe: Path, name: str
) -> None:
    result = debug(changed / name, recipe, memory=100, top=3, progress=lambda message: None)
    assert result.first is None
    assert len(result.series) >= 3


def test_steps_of_an_earlier_build_are_cached(
    recipe: Path, changed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    messages: list[str] = []
    options = BuildOptions(cache=True)
    plan = load_recipe(recipe)
    build(plan, tmp_path / "again", budget=0, progress=messages.append, options=options)
    assert messages == []
    for name in ("small", "taught", "turns"):
        first = Artifact.open(changed / name).manifest
        second = Artifact.open(tmp_path / "again" / name).manifest
        assert json.dumps(first.build["passes"]) == json.dumps(second.build["passes"])


def test_a_pruned_model_that_lost_too_much_fails(recipe: Path, tmp_path: Path) -> None:
    text = (
        RECIPE.partition("gates:")[0]
        + "artifacts:\n  torchscript: null\n  tensorrt: null\n  onnx: null\n"
    )
    path = recipe.with_name("lost.yaml")
    path.write_text(
        text + "  lost: {format: onnx, passes: [{prune: {structured: 0.8, most: 0.9}}]}", "utf-8"
    )
    [row] = build(load_recipe(path), tmp_path / "lost", budget=0).artifacts
    assert row.status is Status.FAILED
    assert "top-1 agreement with the model before its passes" in str(row.reason)


def test_ctrl_c_in_the_middle_of_recovery_and_the_next_build_goes_on(
    recipe: Path, tmp_path: Path
) -> None:
    recover = "{recover: {epochs: 40, batch: 16, minutes: 5, patience: 40}}"
    path = recipe.with_name("interrupted.yaml")
    artifact = f"{{format: onnx, passes: [{{prune: {{structured: 0.5}}}}, {recover}]}}"
    artifacts = f"{{torchscript: null, tensorrt: null, onnx: null, taught: {artifact}}}"
    text = f"{RECIPE.partition('artifacts:')[0]}artifacts: {artifacts}\n"
    path.write_text(text, encoding="utf-8")
    command = [
        sys.executable,
        "-c",
        "from burnish.cli import main; main()",
        "convert",
        str(path),
        "--no-speed",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(burnish.__file__).parent.parent)}
    with subprocess.Popen(
        [*command, "--output", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
    ) as process:
        assert process.stderr is not None
        assert any("epoch 3 of at most 40" in line for line in process.stderr), "it trains"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
        assert "interrupted" in process.stderr.read()
    assert process.returncode == 130
    assert not (tmp_path / "out").exists(), "no artifact was finished, so the folder is removed"
    messages: list[str] = []
    plan = load_recipe(path)
    [row] = build(plan, tmp_path / "out", budget=0, progress=messages.append).artifacts
    assert row.status is Status.PASSED
    [resuming] = [text for text in messages if text.startswith("resuming after epoch")]
    resumed = int(resuming.rpartition(" ")[2])
    assert 2 <= resumed < 40
    for epoch in range(1, resumed + 1):
        assert not any(f"epoch {epoch} of" in text for text in messages)
    report = passes(tmp_path / "out", "taught")[-1]["recover"]
    assert (report["resumed"], report["epochs"], len(report["curve"])) == (True, 40, 40)
    assert report["after"] < report["before"]


Mistake = Callable[[str], Path]


@pytest.mark.parametrize(
    ("passes", "words"),
    [
        ("[{prune: {structured: 2}}]", "must be less than 1"),
        (
            "[{quantize: int8}, {prune: {structured: 0.5}}]",
            "the legal order is prune -> recover -> quantize",
        ),
        ("[{recover: logits}]", "this pass needs training data: add `data: {training:"),
        ("[{prune: {structured: 0.5, importance: taylor}}]", "this pass needs training data"),
        ("[{prune: {structurd: 0.5}}]", "unknown key `structurd`; did you mean 'structured'?"),
    ],
)
def test_mistakes_are_reported_before_any_work(small_recipe: Path, passes: str, words: str) -> None:
    path = small_recipe.with_name("mistaken.yaml")
    path.write_text(
        f"extends: small\nartifacts: {{onnx: {{passes: {passes}}}}}\n", encoding="utf-8"
    )
    with pytest.raises(Exception, match=r"mistaken\.yaml:2") as error:
        load_recipe(path)
    assert words in str(error.value)


def test_a_name_that_matches_nothing_is_the_artifacts_error(
    small_recipe: Path, tmp_path: Path
) -> None:
    path = small_recipe.with_name("nameless.yaml")
    passes = "[{prune: {structured: 0.5, exclude: [layer3.conv1]}}]"
    path.write_text(
        f"extends: small\nartifacts: {{torchscript: null, tensorrt: null, onnx: {{passes: {passes}}}}}\n",
        "utf-8",
    )
    [row] = build(load_recipe(path), tmp_path / "out", budget=0).artifacts
    assert row.status is Status.ERROR
    assert "passes.prune.exclude: no layer is named 'layer3.conv1'" in str(row.reason)
