"""`burnish debug`: its output, its exit status, and the source of its model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from burnish.cli import app
from burnish.debug import _source
from burnish.report.debug import headline, remarks
from converters.debug.result import DebugResult, LayerReport, UnmatchedReport
from runtimes.artifact.artifact import Artifact, FileEntry, sha256
from runtimes.files.layout import REFERENCE_FILE


@pytest.fixture
def broken(small_build: Path, tmp_path: Path) -> Path:
    """The onnx artifact of `small_build` with one weight scaled by 1.01, as if it had been built so."""
    folder = shutil.copytree(small_build / "onnx", tmp_path / "onnx")
    shutil.copy(small_build / REFERENCE_FILE, tmp_path / REFERENCE_FILE)
    path = folder / "model.onnx"
    model = onnx.load(str(path))
    tensor = next(weights for weights in model.graph.initializer if weights.name == "3.weight")
    tensor.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), tensor.name)
    )
    onnx.save(model, str(path))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = FileEntry(
        sha256=sha256(path), size=path.stat().st_size
    ).model_dump()
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def _run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["debug", *map(str, arguments)])


def test_names_the_layer(broken: Path, small_recipe: Path) -> None:
    result = _run(broken, "--recipe", small_recipe)
    assert result.exit_code == 1, result.output
    assert "3 + 4 is the first layer that diverges" in result.stdout
    assert "comparing" in result.stderr and "comparing" not in result.stdout


def test_json_holds_everything(broken: Path, small_recipe: Path) -> None:
    result = _run(broken, "--recipe", small_recipe, "--json", "--top", 2, "--memory", 1)
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert data["first"]["layer"] == "3 + 4"
    assert len(data["adders"]) == 2
    assert data["series"][-1]["layer"] == "output logits"
    keys = {"node", "dtype", "shape", "error_before", "error_after", "sqnr_db", "noise"}
    assert keys <= set(data["series"][0])


@pytest.mark.parametrize("name", ["onnx", "torchscript"])
def test_a_clean_artifact_exits_with_zero(small_build: Path, small_recipe: Path, name: str) -> None:
    result = _run(small_build / name, "--recipe", small_recipe)
    assert result.exit_code == 0, result.output
    assert "no layer diverges" in result.stdout


def test_quiet_prints_nothing(small_build: Path, small_recipe: Path) -> None:
    result = _run(small_build / "onnx", "--recipe", small_recipe, "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_a_users_model_runs_only_on_request(small_build: Path) -> None:
    result = _run(small_build / "onnx")
    assert result.exit_code == 2
    assert "name its recipe with --recipe" in result.stderr


def test_a_recipe_of_another_model(small_build: Path, small_recipe: Path, tmp_path: Path) -> None:
    different = tmp_path / "different.yaml"
    different.write_text(small_recipe.read_text().replace("width: 8", "width: 4"), encoding="utf-8")
    result = _run(small_build / "onnx", "--recipe", different)
    assert result.exit_code == 2
    assert "name the recipe that it was built from" in result.stderr.replace("\n", " ")


def test_no_artifact(tmp_path: Path) -> None:
    result = _run(tmp_path)
    assert result.exit_code == 2 and "is not an artifact" in result.stderr


def test_an_artifact_without_its_reference(
    small_build: Path, small_recipe: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_build / "onnx", tmp_path / "onnx")
    result = _run(tmp_path / "onnx", "--recipe", small_recipe)
    assert result.exit_code == 2 and "copy reference.safetensors of the build" in result.stderr


@pytest.mark.parametrize(
    ("recorded", "weights"),
    [
        ("random:3", "random:3"),
        ("DEFAULT (resnet18-f37072fd.pth)", "DEFAULT"),
        ("package:p/w.pth", "package:p/w.pth"),
    ],
)
def test_a_torchvision_model_needs_no_recipe(
    artifact_copy: Callable[[str], Artifact], recorded: str, weights: str
) -> None:
    changes = {"model": "torchvision:resnet18", "weights": {"source": recorded}}
    manifest = artifact_copy("onnx").manifest.model_copy(update=changes)
    source = _source(manifest, None)
    assert (source.model, source.weights) == ("torchvision:resnet18", (weights,))


def _result(**values: Any) -> DebugResult:
    layer = LayerReport(
        "output a",
        "softmax",
        "Softmax",
        "float32",
        (1, 6),
        1e-7,
        0.5,
        0.5,
        6.0,
        1e6,
        ("fc",),
        ("Mul x",),
        True,
    )
    common: dict[str, Any] = {
        "artifact": "onnx",
        "format": "onnx",
        "precision": "fp32",
        "model": "m",
        "probe": "noise 0",
        "limit": "at most 16x eager's error",
        "first": layer,
        "adders": [layer],
        "series": [layer],
        "complete": True,
        "unmatched": [],
        "runs": 1,
        "notes": [],
    }
    return DebugResult(**{**common, **values})


def test_the_headline_says_where_and_by_how_much() -> None:
    words = headline(_result())
    assert (
        "output a is the first layer that diverges" in words and "0.5" in words and "1e-07" in words
    )


def test_layers_that_were_not_compared_are_grouped_by_reason() -> None:
    missing = [
        UnmatchedReport("a", "gone"),
        UnmatchedReport("b", "fused"),
        UnmatchedReport("c", "gone"),
    ]
    assert remarks(_result(unmatched=missing, notes=["a note"])) == [
        "not compared: b (fused)",
        "not compared: a, c (gone)",
        "a note",
    ]


def test_json_has_no_infinity() -> None:
    layer = LayerReport(
        "a",
        "n",
        "Op",
        "float32",
        (1,),
        0.0,
        float("inf"),
        float("inf"),
        -400.0,
        float("nan"),
        (),
        (),
        True,
    )
    data = _result(first=layer, series=[layer]).as_data()
    assert data["first"]["error_after"] is None and data["first"]["noise"] is None
    json.dumps(data, allow_nan=False)


def test_a_missing_recipe_is_a_usage_error(small_build: Path) -> None:
    result = _run(small_build / "onnx", "--recipe", "no such recipe")
    assert result.exit_code == 2 and "there is no recipe" in result.stderr
