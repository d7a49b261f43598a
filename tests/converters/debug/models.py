"""Models of the tests of debugging: small ones with known layers, and how they are exported."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from converters.debug.compare import Comparison, Findings, compare
from converters.debug.judge import Limit
from converters.debug.match.graph import Taps
from converters.debug.taps.onnx import OnnxTaps
from converters.debug.taps.torchscript import TorchScriptTaps
from converters.debug.truth import Eager
from converters.exporters import EXPORTERS
from converters.exporters.job import ExportJob
from converters.models.facts import ModelFacts
from runtimes.spec import Arrays, DimRange, TensorSpec

PLENTY = 10**9
"""Bytes: all layers in one run."""


class Block(nn.Module):
    """A residual block: its relu runs twice, and in place; its addition belongs to no other module."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


class Inverted(nn.Module):
    """A block that ends in an addition, which is its own result."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU6())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x)


class Net(nn.Module):
    """Two blocks and two heads of one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.block = Block(8)
        self.inverted = Inverted(8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.first = nn.Linear(8, 6)
        self.second = nn.Linear(8, 6)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.drop(torch.flatten(self.pool(self.inverted(self.block(self.stem(image)))), 1))
        return self.first(x), self.second(x)


def net() -> Net:
    """Make the model with seeded weights."""
    torch.manual_seed(0)
    model: Net = _seeded(Net())
    return model


class Photo(nn.Module):
    """A model with all that real classifiers have and converters break.

    That is preprocessing, a resize, dropout, an activation that is no module, a softmax at the end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.resize = nn.Upsample(size=(14, 14), mode="bilinear", align_corners=False)
        self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3])[:, None, None])
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.4])[:, None, None])
        self.conv1, self.bn1, self.act1 = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
        )
        self.conv2, self.bn2 = nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16)
        self.dropout, self.pool = nn.Dropout(0.3), nn.AdaptiveAvgPool2d(1)
        self.head, self.twin = nn.Linear(16, 10), nn.Linear(16, 10)

    def prepared(self, image: torch.Tensor) -> torch.Tensor:
        return (self.resize(image) - self.mean) / self.std

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        image = self.act1(self.bn1(self.conv1(self.prepared(image))))
        image = torch.relu(self.bn2(self.conv2(image)))
        rows = torch.flatten(self.dropout(self.pool(image)), 1)
        return torch.softmax(self.head(rows), 1), self.twin(rows)


def photo_net() -> Photo:
    """Make the model with seeded weights."""
    torch.manual_seed(0)
    model: Photo = _seeded(Photo())
    return model


def _seeded(model: nn.Module) -> Any:
    """Give the model BatchNorm statistics that are not trivial, and activations above six."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
            nn.init.uniform_(norm.weight, 2.0, 4.0)
    return model.eval()


@dataclass(frozen=True)
class Subject:
    """An eager model, a probe, and the files of its exports."""

    eager: Eager
    inputs: Arrays
    outputs: list[str]
    onnx: Path
    torchscript: Path

    def compare(self, path: Path) -> Comparison:
        """Match an artifact's file with the eager model."""
        taps: Taps = (
            OnnxTaps(path, self.eager.paths, self.inputs)
            if path.suffix == ".onnx"
            else TorchScriptTaps(path, self.inputs, by_keyword=False)
        )
        return compare(self.eager, taps, self.inputs, self.outputs)

    def debug(self, path: Path, budget: int = PLENTY, precision: str = "fp32") -> Findings:
        """Debug an artifact's file."""
        return self.compare(path).search(Limit.of(precision), budget, top=3)


def export(
    model: nn.Module,
    format: str,
    folder: Path,
    outputs: list[str],
    size: int,
    rows: int = 0,
    **options: Any,
) -> Path:
    """Export `model`, which takes images of 3 x size x size; `rows`: for this batch only."""
    facts = ModelFacts(
        {"image": TensorSpec(shape=("batch", 3, size, size))},
        {name: TensorSpec(shape=("batch", 1)) for name in outputs},
        {"batch": DimRange(min=rows or 1, max=rows or 4)},
        False,
        0,
    )
    exporter = EXPORTERS.get(format)()
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen = exporter.Options(format=format, **options)
        exported = exporter.export(ExportJob(model, facts, folder), chosen)
    return folder / exported.entry


def make_subject(
    model: nn.Module, outputs: list[str], size: int, folder: Path, rows: int = 2
) -> Subject:
    """Export a model in both formats."""
    noise = np.random.default_rng(0).standard_normal((rows, 3, size, size))
    inputs = {"image": noise.astype(np.float32)}
    onnx = export(model, "onnx", folder / "onnx", outputs, size)
    torchscript = export(model, "torchscript", folder / "torchscript", outputs, size)
    return Subject(Eager(model, outputs, exact=True), inputs, outputs, onnx, torchscript)
