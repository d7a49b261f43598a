"""A tiny network whose steps can be made to fail, and builds of it in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from converters.build.build import build
from converters.build.options import BuildOptions
from converters.digest import ROOT
from converters.plan.load import load_recipe
from runtimes.artifact.artifact import MANIFEST, sha256
from runtimes.results import Build

FACTORY = """
import multiprocessing
from torch import nn


def build():
    if "'torchscript'" in multiprocessing.current_process().name:
        fault()
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def fault():
    {fault}
"""

RECIPE = """
model: python:survivor:build
weights: random:0
inputs:
  x: {{shape: [batch, 4]}}
dims:
  batch: {{min: 1, max: 4}}
artifacts:
{artifacts}
"""
# The exporter that takes a fraction of a second: what a build survives does not depend on it.
BOTH = "  torchscript: {}\n  onnx: {exporter: torchscript}"


@dataclass(frozen=True)
class Lab:
    """A folder for recipes and builds, and a cache of its own."""

    folder: Path
    cache: Path
    root: Path = ROOT

    def recipe(self, fault: str = "pass", artifacts: str = BOTH, name: str = "survivor") -> Path:
        """A recipe, beside a factory that does something bad in the export of TorchScript."""
        (self.folder / "survivor.py").write_text(FACTORY.format(fault=fault), encoding="utf-8")
        path = self.folder / f"{name}.yaml"
        path.write_text(RECIPE.format(artifacts=artifacts), encoding="utf-8")
        return path

    def widen(self) -> None:
        """Give the network 1.9 MB of weights."""
        text = (self.folder / "survivor.py").read_text(encoding="utf-8")
        (self.folder / "survivor.py").write_text(text.replace("8", "60000"), encoding="utf-8")

    def converted(self, recipe: Path, **options: object) -> Build:
        """Build without timing, with the cache."""
        output = options.pop("output", self.folder / "out")
        build_options = BuildOptions(**{"cache": True, **options})  # type: ignore[arg-type]
        return build(load_recipe(recipe), Path(str(output)), budget=0, options=build_options)

    def started(
        self, recipe: Path, output: Path, cache: Path | None = None
    ) -> subprocess.Popen[str]:
        """`burnish convert` as a process that can be killed; its children can be found by the cache's name."""
        command = [
            sys.executable,
            "-m",
            "burnish",
            "convert",
            str(recipe),
            "-o",
            str(output),
            "--no-speed",
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str((cache or self.cache).parent),
        }
        return subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def alive(self, cache: Path | None = None) -> list[str]:
        """Living processes of builds that use a cache: number, parent, state, command."""
        return list(_using((cache or self.cache).parent))

    def digests(self, output: Path) -> dict[str, str]:
        """sha256 of every file of every artifact."""
        digests = {}
        for manifest in output.glob(f"*/{MANIFEST}"):
            for path in manifest.parent.rglob("*"):
                if path.is_file():
                    digests[path.relative_to(output).as_posix()] = sha256(path)
        return digests


def _using(folder: Path) -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("XDG_CACHE_HOME") == str(folder)
            if mine and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                command = " ".join(process.cmdline())[:100]
                yield f"{process.pid} of {process.ppid()} {process.status()} {command}"
        except psutil.Error:
            continue


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Where a test builds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Lab(tmp_path, tmp_path / "cache" / "burnish")
