"""Fixtures of OpenVINO's tests: copies of a real build, a cache folder for one test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtimes.artifact.artifact import MANIFEST, Artifact


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
