"""A small residual network that tells ten kinds of clothes apart in grey pictures of 28 x 28 pixels.

The recipe fashion_cnn.yaml names the factory below as `python:fashion_cnn.net:build`.
"""

from collections.abc import Sequence

import torch
from torch import nn


def convolution(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution and batch norm: [N, channels, H, W] in, [N, width, H / stride, W / stride] out."""
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width))


class Residual(nn.Module):
    """Two convolutions whose result is added to what went in; the shape stays."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = convolution(width, width)
        self.second = convolution(width, width)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(x + self.second(self.relu(self.first(x))))


class FashionNet(nn.Module):
    """Pixel values of 0 to 255, [N, 1, 28, 28], in; logits, [N, classes], out.

    After the stem each stage halves height and width, then refines: few wide layers, which engines run faster than
    many narrow ones of as many operations, and which pruning can narrow.
    """

    def __init__(self, stem: int, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(1, stem), nn.ReLU())
        self.stages = nn.Sequential()
        for before, width in zip([stem, *widths], widths, strict=False):
            self.stages.append(nn.Sequential(convolution(before, width, stride=2), nn.ReLU(), Residual(width)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.stages(self.stem(image / 255))
        return self.head(self.pool(features).flatten(1))


def build(stem: int = 32, widths: Sequence[int] = (96, 160), classes: int = 10) -> nn.Module:
    """The factory: `args:` of the recipe become its arguments."""
    return FashionNet(stem, widths, classes)
