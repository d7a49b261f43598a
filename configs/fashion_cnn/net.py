"""A small residual network that classifies ten kinds of clothes in grey pictures of 28 x 28 pixels.

The recipe fashion_cnn.yaml names the factory below as `python:fashion_cnn.net:build`.
"""

from collections.abc import Sequence

import torch
from torch import nn


def convolution(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    """Return a 3 x 3 convolution with BatchNorm.

    [N, channels, H, W] in, [N, width, H / stride, W / stride] out.
    """
    conv = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width))


class Residual(nn.Module):
    """Two convolutions whose output is added to their input; the shape stays."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = convolution(width, width)
        self.second = convolution(width, width)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(x + self.second(self.relu(self.first(x))))


class FashionNet(nn.Module):
    """Pixel values of 0 to 255, [N, 1, 28, 28], in; logits, [N, classes], out.

    After the stem each stage halves height and width, then refines. It has few wide layers: engines
    run them faster than many narrow ones with as many operations, and pruning can narrow them.
    """

    def __init__(self, stem: int, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(1, stem), nn.ReLU())
        self.stages = nn.Sequential()
        for before, width in zip([stem, *widths], widths, strict=False):
            down = convolution(before, width, stride=2)
            self.stages.append(nn.Sequential(down, nn.ReLU(), Residual(width)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.stages(self.stem(image / 255))
        return self.head(self.pool(features).flatten(1))


def build(stem: int = 32, widths: Sequence[int] = (96, 160), classes: int = 10) -> nn.Module:
    """Return the model: the factory of the recipe, whose `args:` become its arguments."""
    return FashionNet(stem, widths, classes)
