"""Models of rows of numbers: an MLP, a regression with an offset, bins, a branch on values."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from trained import settle


def mlp() -> nn.Module:
    """Three layers with ReLU, GELU and tanh."""
    return settle(_Mlp(), seed=31)


class _Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(20, 32), nn.Linear(32, 24)
        self.head, self.side = nn.Linear(24, 10), nn.Linear(24, 3)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        x = functional.gelu(self.second(functional.relu(self.first(features))))
        return self.head(x), torch.tanh(self.side(x))


def temperature() -> nn.Module:
    """A regression of 294 K with a spread of 0.45."""
    return settle(_Temperature(), (16, 12), seed=32)


class _Temperature(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 24), nn.Linear(24, 24)
        self.norm, self.head = nn.BatchNorm1d(24), nn.Linear(24, 1)

    def forward(self, features: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.first(features)))
        return 294 + 0.3 * self.head(functional.relu(self.second(x)))


def bins() -> nn.Module:
    """Numbers put into bins whose rows are looked up, and ranges of a whole row."""
    return settle(_Bins(), seed=33)


class _Bins(nn.Module):
    edges: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.table, self.age = nn.Embedding(11, 12), nn.Embedding(101, 12)
        self.mix, self.head = nn.Linear(38, 24), nn.Linear(24, 4)
        self.register_buffer("edges", torch.linspace(-2, 2, 12))

    def forward(self, amounts: Tensor, ages: Tensor) -> Tensor:
        bins = torch.floor(amounts.clamp(0, 99.9) / 9.1).long()
        rounded = torch.round(amounts / 8) * 8
        largest, smallest = amounts.amax(1, keepdim=True), amounts.amin(1, keepdim=True)
        mean = amounts.mean(1, keepdim=True)
        above = (amounts > 75).to(amounts.dtype).sum(1, keepdim=True)
        summary = torch.cat([largest, smallest, mean, rounded.cumsum(1) / 6, above * 9], 1) / 50
        row = torch.cat([self.table(bins).sum(1), self.age(ages), summary], 1)
        return self.head(functional.softplus(self.mix(functional.pad(row, (0, 4)))))


def gated() -> nn.Module:
    """A branch that values decide: loud batches take another way than quiet ones."""
    return settle(_Gated(), seed=34)


class _Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(10, 16)
        self.loud, self.quiet = nn.Linear(16, 4), nn.Linear(16, 4)

    def forward(self, features: Tensor) -> Tensor:
        x = torch.tanh(self.first(features))
        return torch.cond(x.mean() > 0, self._loud, self._quiet, (x,))

    def _loud(self, x: Tensor) -> Tensor:
        return self.loud(x * 2)

    def _quiet(self, x: Tensor) -> Tensor:
        return self.quiet(x) - 0.5
