"""What the tests of several exporters start from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from converters.exporters.job import ExportJob
from converters.models.facts import ModelFacts
from runtimes.artifact.artifact import Artifact


class Branches(nn.Module):
    """Control flow on a value, which scripting keeps and no traced graph can follow."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 0):
            return x + 1
        return x - 1


@pytest.fixture
def branches() -> nn.Module:
    """A module whose control flow depends on a value."""
    return Branches()


@pytest.fixture
def cnn_job(small_build: Path, tmp_path: Path) -> ExportJob:
    """The small CNN's own ONNX artifact (opset 20, batch 1..8) as the start of another format."""
    manifest = Artifact.open(small_build / "onnx").manifest
    facts = ModelFacts(manifest.inputs, manifest.outputs, manifest.dims, False, 0)
    (tmp_path / "made").mkdir()
    return ExportJob(None, facts, tmp_path / "made", small_build / "onnx" / manifest.entry)
