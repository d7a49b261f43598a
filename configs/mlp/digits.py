"""A user's own model: a small network that reads handwritten digits of 8 x 8 pixels.

The recipe mlp.yaml names the factory below as `python:mlp.digits:build`.
"""

from itertools import pairwise

import torch
from torch import nn


class Digits(nn.Module):
    """64 pixel values of 0 to 16 in, 10 logits out."""

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        sizes = [64, *[hidden] * layers]
        self.body = nn.Sequential()
        for before, after in pairwise(sizes):
            self.body.append(nn.Linear(before, after))
            self.body.append(nn.ReLU())
        self.head = nn.Linear(sizes[-1], 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(pixels / 16))


def build(hidden: int = 128, layers: int = 2) -> nn.Module:
    """Return the model: the factory of the recipe, whose `args:` become its arguments."""
    return Digits(hidden, layers)
