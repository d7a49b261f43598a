"""The format that docs/python.md adds from another package is installed, built and proven as it stands there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tools.pages import DOCS, ROOT, blocks

_RECIPE = """
model: python:net:build
weights: random:0
inputs:
  x: {shape: [batch, 4]}
dims:
  batch: {min: 1, max: 4}
artifacts:
  numpy: {}
"""
_FACTORY = """
from torch import nn


def build():
    return nn.Linear(4, 3)
"""


def install(folder: Path) -> None:
    """Put the page's package into a folder on the import path, with the entry points that the page shows."""
    page = DOCS / "python.md"
    (package,) = [block for block in blocks(page) if block.title == "my_package.py"]
    (entry_points,) = [block for block in blocks(page) if block.language == "toml"]
    (folder / "my_package.py").write_text(package.text, encoding="utf-8")
    info = folder / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n", encoding="utf-8"
    )
    sections = (
        entry_points.text.replace('[project.entry-points."', "[")
        .replace('"]', "]")
        .replace('"', "")
    )
    (info / "entry_points.txt").write_text(sections, encoding="utf-8")


def test_the_format_of_another_package_passes(tmp_path: Path) -> None:
    install(tmp_path)
    (tmp_path / "net.py").write_text(_FACTORY, encoding="utf-8")
    (tmp_path / "linear.yaml").write_text(_RECIPE, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "burnish", "convert", "linear.yaml", "--no-speed", "--json"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["artifacts"]
    assert (row["name"], row["status"]) == ("numpy", "passed"), row["reason"]
