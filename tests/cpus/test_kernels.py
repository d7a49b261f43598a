"""A build whose artifacts depend on the kernels of the CPU passes every gate on each CPU that is emulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.build.build import build
from converters.plan.load import load_recipe
from runtimes.artifact.artifact import Artifact
from runtimes.machine.bound import vectors
from runtimes.results import Row, Status

pytest.importorskip("openvino", reason="half of the kernels are its")
pytest.importorskip("nncf", reason="it quantizes")
pytestmark = pytest.mark.cpu

RECIPE = """
extends: small
data:
  calibration: {arrays: kernels.npy, samples: 16}
  evaluation: {arrays: kernels.npy, samples: 8}
artifacts:
  onnx: null
  tensorrt: null
  torchscript: {}
  openvino: {}
  openvino-int8: {format: openvino, passes: [{quantize: int8}]}
  onnx-int8: {format: onnx, optimize: all, passes: [{quantize: int8}]}
"""


@pytest.fixture(scope="module")
def built(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small CNN in float and in int8, for engines that choose kernels by the CPU."""
    samples = np.random.default_rng(5).normal(0, 1, (24, 3, 32, 32)).astype(np.float32)
    np.save(small_recipe.with_name("kernels.npy"), samples)
    recipe = small_recipe.with_name("kernels.yaml")
    recipe.write_text(RECIPE, encoding="utf-8")
    return tmp_path_factory.mktemp("kernels") / "out"


@pytest.fixture(scope="module")
def rows(small_recipe: Path, built: Path) -> dict[str, Row]:
    return {
        row.name: row
        for row in build(
            load_recipe(small_recipe.with_name("kernels.yaml")), built, budget=0
        ).artifacts
    }


def test_every_artifact_passes(rows: dict[str, Row]) -> None:
    assert {name: (row.status, row.reason) for name, row in rows.items()} == dict.fromkeys(
        ("torchscript", "openvino", "openvino-int8", "onnx-int8"), (Status.PASSED, None)
    )


@pytest.mark.parametrize("name", ["openvino-int8", "onnx-int8"])
def test_every_layer_computes_in_integers(rows: dict[str, Row], built: Path, name: str) -> None:
    assert Artifact.open(built / name).manifest.build["compute_layers"] == {"int8": 3}


def test_the_graph_that_is_laid_out_for_this_cpu_says_so(rows: dict[str, Row], built: Path) -> None:
    assert Artifact.open(built / "onnx-int8").manifest.build["isa"] == vectors()
