"""Fixtures of OpenVINO's tests: a real build, copies of it, a cache folder for one test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtimes.artifact.artifact import MANIFEST, Artifact

_ARTIFACTS = """
artifacts:
  openvino: {}
  openvino-bf16: {format: openvino, precision: bf16}
"""


@pytest.fixture(scope="session")
def ir_build(small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the small CNN as OpenVINO IR, in float32 and bfloat16. Change only copies of it."""
    from converters.build.build import build
    from converters.plan.load import load_recipe

    recipe = small_recipe.with_name("openvino.yaml")
    shared = small_recipe.read_text(encoding="utf-8").partition("artifacts:")[0]
    recipe.write_text(shared + _ARTIFACTS, encoding="utf-8")
    output = tmp_path_factory.mktemp("ir_build") / "ir"
    build(load_recipe(recipe), output, budget=0)
    return output


@pytest.fixture
def changed(ir_build: Path, tmp_path: Path) -> Callable[..., Artifact]:
    """A copy of the float32 artifact with another manifest."""

    def change(build: dict[str, Any] | None = None, **values: Any) -> Artifact:
        path = shutil.copytree(ir_build / "openvino", tmp_path / "changed")
        raw = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        (path / MANIFEST).write_text(
            json.dumps({**raw, **values, "build": raw["build"] | (build or {})})
        )
        return Artifact.open(path)

    return change


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This user's cache folder, for this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "burnish" / "openvino"
