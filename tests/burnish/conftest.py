"""What tests of the front door share: the command line in this process, and builds that a test may change."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import burnish

_FACTORY = """
from pathlib import Path

import torch
from torch import nn

Path(__file__).with_name("imported").touch()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 3)

    def forward(self, x, *ignored):  # *ignored: the scripting compiler refuses this module
        return self.body(x)
"""
_RECIPE = """
model: python:user_tiny:Net
weights: random:0
inputs:
  x: {shape: [batch, 4]}
dims:
  batch: {min: 1, max: 4}
artifacts:
  torchscript: {}
"""


@pytest.fixture
def invoke() -> Callable[..., Result]:
    """Runs the command line; the result has exit_code, stdout and stderr."""

    def invoke(*arguments: object) -> Result:
        from burnish.cli import app

        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
        return result

    return invoke


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Path:
    """A recipe of one linear layer and one artifact; its factory leaves a file `imported` beside itself."""
    (tmp_path / "user_tiny.py").write_text(dedent(_FACTORY), encoding="utf-8")
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(dedent(_RECIPE), encoding="utf-8")
    return recipe


@pytest.fixture
def build_copy(small_build: Path, tmp_path: Path) -> Path:
    """A copy of the shared build, for a test that changes it."""
    return shutil.copytree(small_build, tmp_path / "copy")


@pytest.fixture
def edit_json() -> Callable[..., None]:
    """Changes top-level values of a JSON file."""

    def edit(path: Path, **values: Any) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**content, **values}), encoding="utf-8")

    return edit


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment of a subprocess that is to import Burnish from where this process did."""
    return {**os.environ, "PYTHONPATH": str(Path(burnish.__file__).parent.parent)}
