"""The same recipe built twice gives the same bytes: in another folder and process, with other hashes and cores."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import burnish
from runtimes.artifact.artifact import MANIFEST, Artifact, sha256
from runtimes.machine.machine import cores
from runtimes.results import Build

_FACTORY = '''
"""A network whose source lies in the recipe's own folder, as a user's does."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(x + self.norm(self.conv(x)))


class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.first, self.second = Block(width), Block(width)
        self.inner, self.head = nn.Linear(width, 32), nn.Linear(32, 10)

    def forward(self, image):
        x = self.second(self.first(torch.relu(self.stem(image))))
        return self.head(torch.relu(self.inner(x.mean((2, 3)))))
'''

_RECIPE = """
model: python:user_repeated:Net
weights: [gone.pth, random:0]     # the manifest must not tell where the first one was looked for
inputs:
  image: {shape: [batch, 3, 16, 16], dtype: float32}
dims:
  batch: {min: 1, opt: 1, max: 8}
task: classification
data:
  calibration: {arrays: samples.npy, samples: 24}
  evaluation: {arrays: samples.npy, samples: 8}
artifacts:
  torchscript: {}
  traced: {format: torchscript, method: trace}
  torch-export: {}
  strict: {format: torch-export, method: strict}
  compiled: {format: aot-inductor, autotune: false}
  onnx: {}
  older: {format: onnx, exporter: torchscript}
  fp16: {format: onnx, precision: fp16}
  optimized: {format: onnx, optimize: all}
  int8: {format: onnx, passes: [{quantize: int8}]}
  int8-ort: {format: onnx, passes: [{quantize: {to: int8, method: onnxruntime}}]}
  dynamic: {format: onnx, passes: [{quantize: dynamic}]}
  int4: {format: onnx, passes: [{quantize: int4}]}
  half: {format: onnx, passes: [{prune: {structured: 0.4}}]}
  openvino: {}
  openvino-bf16: {format: openvino, precision: bf16}
  openvino-int8: {format: openvino, passes: [{quantize: int8}]}
  tensorrt: {flavor: rtx}
  tensorrt-fp16: {format: tensorrt, flavor: rtx, precision: fp16}
"""

_BUILD = """
import os, sys
os.sched_setaffinity(0, {int(core) for core in sys.argv[3].split(",")})
import burnish
burnish.convert(sys.argv[1], sys.argv[2], speed=False)
"""


def start(folder: Path, output: str, seed: int, some_cores: list[int]) -> subprocess.Popen[str]:
    """A build of the recipe in a process of its own, with no cache that anything is in."""
    folder.mkdir(parents=True)
    (folder / "user_repeated.py").write_text(_FACTORY, encoding="utf-8")
    (folder / "repeated.yaml").write_text(_RECIPE, encoding="utf-8")
    samples = np.random.default_rng(3).normal(0, 1, (32, 3, 16, 16)).astype(np.float32)
    np.save(folder / "samples.npy", samples)
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(burnish.__file__).parent.parent),
        "PYTHONHASHSEED": str(seed),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    words = [
        sys.executable,
        "-c",
        _BUILD,
        str(folder / "repeated.yaml"),
        str(folder / output),
        ",".join(map(str, some_cores)),
    ]
    return subprocess.Popen(
        words,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two builds of one recipe, as different from each other as two on one machine can be."""
    top = tmp_path_factory.mktemp("repeated")
    first, second = top / "a" / "out", top / "a longer name" / "deeper" / "other"
    started = [
        start(first.parent, first.name, 1, cores()),
        start(second.parent, second.name, 2, cores()[-1:]),
    ]
    for one in started:
        output, _ = one.communicate(timeout=540)
        assert one.returncode == 0, output
    return first, second


def files(build: Path) -> dict[str, str]:
    """The digest of every file that a build leaves, but for the report of the run itself."""
    found = (
        path
        for path in build.rglob("*")
        if path.is_file() and path.relative_to(build).parts[0] != "logs"
    )
    return {
        path.relative_to(build).as_posix(): sha256(path)
        for path in found
        if path.name not in ("build.json", "steps.json")
    }


@pytest.mark.timeout(600)
def test_two_builds_leave_the_same_bytes(builds: tuple[Path, Path]) -> None:
    first, second = map(files, builds)
    assert {
        name for name in first.keys() | second.keys() if first.get(name) != second.get(name)
    } == set()


def test_every_artifact_that_this_machine_can_build_was_compared(builds: tuple[Path, Path]) -> None:
    for build in builds:
        rows = {row.name: row for row in Build.read(build).artifacts}
        assert len(rows) == 19
        missing = {name for name, row in rows.items() if not (build / name / MANIFEST).is_file()}
        assert {rows[name].status for name in missing} <= {"skipped"}, {
            name: rows[name].reason for name in missing
        }
        assert "onnx" not in missing


def test_manifests_say_that_they_are_deterministic(builds: tuple[Path, Path]) -> None:
    for manifest in builds[0].glob(f"*/{MANIFEST}"):
        made = Artifact.open(manifest.parent).manifest
        assert made.deterministic is True
        assert made.provenance is not None
        assert made.provenance.varies is None


def test_no_file_of_an_artifact_names_a_folder_or_a_time(builds: tuple[Path, Path]) -> None:
    """Nor what a file has compressed: archives of PyTorch store, and the other formats do not compress."""
    told = [
        str(builds[0].parent).encode(),
        str(Path(burnish.__file__).parent.parent).encode(),
        b"site-packages",
    ]
    for path in (
        path for path in builds[0].glob("*/*") if path.parent.name not in ("logs", "models")
    ):
        content = path.read_bytes()
        assert not [one for one in told if one in content], path
        if path.name == MANIFEST:
            assert not re.search(rb"20\d\d-\d\d-\d\d", content)


@pytest.mark.skipif(not find_spec("tensorrt_rtx"), reason="tensorrt-rtx is not installed")
def test_engines_were_among_them(builds: tuple[Path, Path]) -> None:
    assert (builds[0] / "tensorrt" / "model.engine").is_file()
