"""Models of signals: recurrent networks, a streaming filter with explicit state, sound."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from trained import settle


def lstm() -> nn.Module:
    """Two layers of an LSTM; the last state decides."""
    return settle(_Lstm(), seed=21)


class _Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 16, num_layers=2, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, series: Tensor) -> Tensor:
        rows, (state, _) = self.rnn(series)
        return self.head(torch.cat([rows.mean(1), state[-1]], 1))


def gru() -> nn.Module:
    """A GRU in both directions, with an answer at each step of any length."""
    return settle(_Gru(), seed=22)


class _Gru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, 12, batch_first=True, bidirectional=True)
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 4)

    def forward(self, series: Tensor) -> Tensor:
        rows, _ = self.rnn(series)
        return torch.log_softmax(self.head(self.norm(rows)), -1)


def streaming() -> nn.Module:
    """A causal filter whose past comes in and goes out as tensors."""
    return settle(_Streaming(), seed=23)


class _Streaming(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 12, 5)
        self.cell, self.head = nn.Linear(24, 24), nn.Linear(12, 4)

    def forward(self, chunk: Tensor, past: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        longer = torch.cat([past, chunk], 2)
        features = functional.relu(self.conv(longer))
        gates = self.cell(torch.cat([features.mean(2), memory], 1))
        keep, candidate = torch.sigmoid(gates[:, :12]), torch.tanh(gates[:, 12:])
        memory = keep * memory + (1 - keep) * candidate
        denoised = self.head((features * memory[:, :, None]).transpose(1, 2)).transpose(1, 2)
        return chunk + denoised, longer[:, :, -4:], memory


def audio() -> nn.Module:
    """Strided convolutions over a waveform of any length, with the logarithm of its energy."""
    return settle(_Audio(), (4, 1, 1024), seed=24)


class _Audio(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv1d(1, 16, 64, stride=16, padding=24, bias=False)
        self.conv, self.norm = nn.Conv1d(16, 16, 5, padding=2, dilation=1), nn.BatchNorm1d(16)
        self.attention, self.head = nn.Linear(16, 1), nn.Linear(16, 6)

    def forward(self, waveform: Tensor) -> Tensor:
        energy = torch.log(self.filters(waveform).square() + 1e-4)
        x = functional.leaky_relu(self.norm(self.conv(energy)), 0.2).transpose(1, 2)
        weights = torch.softmax(self.attention(x), 1)
        return self.head((x * weights).sum(1))
