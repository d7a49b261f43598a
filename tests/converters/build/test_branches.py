"""Branches on values, relations of sizes and guards, from a recipe to its rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from burnish.report.text import remarks
from converters.build.build import build
from converters.plan.load import load_recipe
from runtimes.results import Build, Row, Status

MODELS = """\
import torch
from torch import nn


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.bright, self.dark = nn.Linear(16, 3), nn.Linear(16, 3)

    def forward(self, x):
        return self.bright(x) if 0.91 < float(x.mean()) < 0.92 else self.dark(x)


class Step(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x, past, mask):
        keys = torch.cat([past, self.key(x)], 1)
        return (self.query(x) @ keys.transpose(1, 2) + mask).softmax(-1) @ keys, keys


class Long(nn.Module):
    def forward(self, x, **options):
        if x.shape[1] > 48:
            return x * 2
        return x * 3


def gate():
    return Gate()


def step():
    return Step()


def long():
    return Long()
"""
GATE = """\
model: python:user_branches:gate
weights: random:0
inputs: {x: {shape: [batch, 16], range: [0, 1]}}
dims: {batch: {min: 1, opt: 2, max: 8}}
artifacts:
  onnx: {}
  onnx-named: {format: onnx, exporter: torchscript}
  onnx-optimized: {format: onnx, exporter: torchscript, optimize: basic}
  openvino: {}
  openvino-named: {format: openvino, exporter: torchscript}
  torchscript: {}
  torchscript-trace: {format: torchscript, method: trace}
"""
STEP = """\
model: python:user_branches:step
weights: random:0
inputs:
  x: {shape: [batch, new, 8]}
  past: {shape: [batch, past, 8]}
  mask: {shape: [batch, new, total]}
outputs: [y, keys]
dims:
  batch: {min: 1, opt: 1, max: 4}
  past: {min: 1, opt: 16, max: 64}
  new: {min: 1, opt: 1, max: 8}
  total: past + new
artifacts: {onnx: {}, openvino: {}, torch-export: {}}
"""
LONG = """\
model: python:user_branches:long
inputs: {x: {shape: [batch, length]}}
dims: {batch: {min: 1, max: 4}, length: {min: 4, opt: 16, max: 64}}
artifacts:
  onnx: {}
  openvino: {}
  torch-export: {}
  torchscript: {}
  torchscript-trace: {format: torchscript, method: trace}
"""
Write = Callable[..., Path]


@pytest.fixture
def result(write: Write, tmp_path: Path, own_imports: None) -> Callable[[str], Build]:
    """Builds a recipe of the models above, without timing."""

    def built(recipe: str) -> Build:
        write(MODELS, "user_branches.py")
        return build(load_recipe(write(recipe)), tmp_path / "out", budget=0)

    return built


def rows(result: Build) -> dict[str, Row]:
    return {row.name: row for row in result.artifacts}


def test_a_branch_on_values_passes_only_where_it_is_kept_or_asked_for(
    result: Callable[[str], Build],
) -> None:
    built = result(GATE)
    judged = rows(built)
    assert {name: row.status for name, row in judged.items()} == {
        "onnx": Status.ERROR,
        "onnx-named": Status.PASSED,
        "onnx-optimized": Status.PASSED,
        "openvino": Status.ERROR,
        "openvino-named": Status.PASSED,
        "torchscript": Status.PASSED,
        "torchscript-trace": Status.PASSED,
    }
    place = "user_branches.py, line 11: `return self.bright(x) if 0.91 < float(x.mean()) < 0.92"
    assert place in (judged["onnx"].reason or "")
    shown = remarks(built)
    for name in ("onnx-named", "onnx-optimized", "openvino-named", "torchscript-trace"):
        assert any(line.startswith(f"{name}: the trace keeps") and place in line for line in shown)
    assert not any(line.startswith("torchscript: the trace keeps") for line in shown)


def test_a_cache_with_a_mask_passes_in_each_format(result: Callable[[str], Build]) -> None:
    judged = rows(result(STEP))
    assert {row.status for row in judged.values()} == {Status.PASSED}
    sizes = judged["onnx"].parity.sizes
    assert sizes is not None
    assert list(sizes.dims) == ["batch", "past", "new"]
    assert sizes.tried > 20


def test_a_branch_on_a_length_passes_nowhere(result: Callable[[str], Build]) -> None:
    judged = rows(result(LONG))
    for name in ("onnx", "openvino", "torch-export", "torchscript"):
        assert judged[name].status is Status.ERROR
        assert "length: only 4 to 48, of 4 to 64" in (judged[name].reason or "")
        assert "user_branches.py, line 26: `if x.shape[1] > 48:`" in (judged[name].reason or "")
    assert judged["torchscript-trace"].status is Status.FAILED, "the probes have longer ones"
