"""Detectors, segmentation and denoising, with real samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from runtimes.spec import DimRange, TensorSpec
from runtimes.validator.probes import Probe
from tests.adversary.harness import Subject, real

SIDE = 32
_INPUTS = {"image": TensorSpec(shape=("batch", 3, SIDE, SIDE))}
_DIMS = {"batch": DimRange(max=4)}


def pictures(count: int = 24) -> list[Probe]:
    """Smooth pictures with a bright spot."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    samples = []
    for _ in range(count):
        y, x = rng.uniform(0.2, 0.8, 2)
        spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 0.02)
        shade = rng.normal(size=(3, 1, 1)) * 0.5 + rows * rng.normal()
        noise = 0.2 * rng.standard_normal((3, SIDE, SIDE))
        samples.append({"image": (shade + 2 * spot + noise)[None].astype(np.float32)})
    return real(samples)


class Yolo(nn.Module):
    """Boxes of up to 640 pixels and scores of up to one, in one tensor [batch, 4 + 3, cells]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.boxes, self.scores = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 3, 1)

    def parts(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.relu(self.stem(image))
        boxes = 640 * torch.sigmoid(self.boxes(features))
        return boxes.flatten(2), torch.sigmoid(self.scores(features)).flatten(2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat(self.parts(image), 1)


class Best(Yolo):
    """The eight best cells: scores, classes and boxes, the best first (as CenterNet)."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        boxes, scores = self.parts(image)
        best, classes = scores.max(1)
        top, cells = best.topk(8)
        picked = boxes.gather(2, cells[:, None].expand(-1, 4, -1)).transpose(1, 2)
        return top, classes.gather(1, cells), picked


class Rounded(Best):
    """As `Best`, with scores of few values: many ties."""

    def parts(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        boxes, scores = super().parts(image)
        return boxes, (scores * 16).round() / 16


class Segments(nn.Module):
    """The class of each pixel, and whether it is foreground."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.second(torch.relu(self.first(image)))
        classes = scores.argmax(1)
        return classes, classes > 0


class Foreground(nn.Module):
    """Whether a pixel is bright: one of fifteen is."""

    def __init__(self, floats: bool = False) -> None:
        super().__init__()
        self.smooth = nn.Conv2d(3, 1, 5, padding=2)
        self.floats = floats
        with torch.no_grad():
            self.smooth.weight.fill_(1 / 75)
            self.smooth.bias.zero_()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mask = self.smooth(image)[:, 0] > 1.2
        return mask.to(image.dtype) if self.floats else mask


class Denoiser(nn.Module):
    """A smoothed picture: a residual of two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.smooth = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
        self.mix = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.smooth.weight.fill_(1 / 9)
            self.mix.weight.copy_(torch.eye(3)[:, :, None, None])
            self.mix.bias.zero_()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.mix(self.smooth(image))


class Pruned(Denoiser):
    """The denoiser, one channel of which is gone."""

    def __init__(self, left: float = 0.0) -> None:
        super().__init__()
        with torch.no_grad():
            self.mix.weight[1] *= left


class Damaged(Denoiser):
    """The denoiser with weights that moved: worse than its noisy input."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.mix.weight.add_(0.5 * torch.randn_like(self.mix.weight))


def _subject(name: str, build: Callable[[], nn.Module], **fields: object) -> Subject:
    return Subject(name, build, _INPUTS, _DIMS, samples=pictures, **fields)  # type: ignore[arg-type]


BEST_OUTPUTS = ("scores", "classes", "boxes")
YOLO = _subject("yolo", Yolo, outputs=("boxes",))
BEST = _subject("best cells", Best, outputs=BEST_OUTPUTS)
TIED = _subject("tied cells", Rounded, outputs=BEST_OUTPUTS)
SEGMENTS = _subject("segments", Segments, outputs=("classes", "foreground"))
FOREGROUND = _subject("foreground", Foreground, outputs=("mask",))
MASK = _subject("a mask of floats", lambda: Foreground(floats=True), outputs=("mask",))
DENOISER = _subject("denoiser", Denoiser, outputs=("image",))
PRUNED = _subject("pruned denoiser", Pruned, before=Denoiser)
DAMAGED = _subject("damaged denoiser", Damaged, before=Denoiser)
LIGHTLY_PRUNED = Subject(
    "lightly pruned denoiser",
    lambda: Pruned(0.95),
    _INPUTS,
    _DIMS,
    samples=pictures,
    before=Denoiser,
)
