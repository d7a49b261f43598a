"""Correct models of time: recurrent, convolutional, streaming, audio."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from runtimes.spec import DimRange, TensorSpec
from tests.adversary.harness import Subject

WIDTH = 12


class Lstm(nn.Module):
    """Two layers in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(4, WIDTH, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * WIDTH, 3)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        states, _ = self.cells(frames)
        return self.head(states)


class Gru(nn.Module):
    """Read at the length of each row."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.GRU(4, WIDTH, batch_first=True), nn.Linear(WIDTH, 3)

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        states, _ = self.cells(frames)
        last = (lengths - 1)[:, None, None].expand(-1, 1, WIDTH)
        return self.head(states.gather(1, last)[:, 0])


class Streaming(nn.Module):
    """One chunk of a stream: a cache of samples and a recurrent state go in and come out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.cell = nn.Conv1d(2, 8, 5), nn.GRUCell(8, WIDTH)
        self.head = nn.Linear(WIDTH, 4)

    def forward(
        self, chunk: torch.Tensor, cache: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        samples = torch.cat([cache, chunk], 2)
        features = F.relu(self.conv(samples)).mean(2)
        state = self.cell(features, state)
        return self.head(state), samples[:, :, -4:], state


class Mel(nn.Module):
    """A logarithm of mel bands by convolution with windowed waves, and a small network on it."""

    def __init__(self) -> None:
        super().__init__()
        time = torch.arange(64) / 64
        window = 0.5 - 0.5 * torch.cos(2 * math.pi * time)
        angles = 2 * math.pi * torch.arange(1, 25)[:, None] * time
        self.register_buffer("cos", (angles.cos() * window)[:, None])
        self.register_buffer("sin", (angles.sin() * window)[:, None])
        self.register_buffer("bands", torch.rand(10, 24) * (torch.rand(10, 24) > 0.6))
        self.body, self.head = nn.Conv1d(10, 16, 3, padding=1), nn.Linear(16, 5)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        wave = audio[:, None]
        power = F.conv1d(wave, self.cos, stride=32).square()
        power = power + F.conv1d(wave, self.sin, stride=32).square()
        mel = (self.bands @ power).clamp_min(1e-5).log()
        return self.head(F.relu(self.body((mel + 4) / 4)).mean(2))


class Dilated(nn.Module):
    """Causal convolutions of growing dilation, gated, with residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList(nn.Conv1d(4, 8, 2, dilation=2**power) for power in range(4))

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        for layer in self.steps:
            left = layer.dilation[0]
            a, b = layer(F.pad(signal, (left, 0))).chunk(2, 1)
            signal = signal + torch.tanh(a) * torch.sigmoid(b)
        return signal


class Forecast(nn.Module):
    """Normalizes each series by itself, and forecasts from a moving mean and the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.trend, self.rest = nn.Linear(32, 8), nn.Linear(32, 8)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        mean, deviation = series.mean(1, keepdim=True), series.std(1, keepdim=True) + 1e-3
        x = (series - mean) / deviation
        smooth = F.avg_pool1d(F.pad(x[:, None], (2, 2), mode="replicate"), 5, 1)[:, 0]
        return (self.trend(smooth) + self.rest(x - smooth)) * deviation + mean


class Encoder(nn.Module):
    """PyTorch's own encoder layer, with a mask of padding."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 24, batch_first=True, norm_first=True)

    def forward(self, frames: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        added = torch.zeros_like(padding, dtype=frames.dtype).masked_fill(padding, -1e4)
        return self.layer(frames, src_key_padding_mask=added)


class Counts(nn.Module):
    """Sums over time, a quantile by sorting, and how many are above the mean."""

    def forward(self, series: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        ordered = series.sort(1).values
        above = (series > series.mean(1, keepdim=True)).sum(1)
        return series.cumsum(1), ordered[:, 8], above


_TIME = {"batch": DimRange(max=6), "time": DimRange(min=2, opt=16, max=48)}
_FRAMES = TensorSpec(shape=("batch", "time", 4))
_SERIES = {"series": TensorSpec(shape=("batch", 32))}
_BATCH = {"batch": DimRange(max=6)}
MODELS = (
    Subject("lstm", Lstm, {"frames": _FRAMES}, _TIME),
    Subject(
        "gru",
        Gru,
        {
            "frames": _FRAMES,
            "lengths": TensorSpec(shape=("batch",), dtype="int64", kind="length"),
        },
        _TIME,
    ),
    Subject(
        "streaming",
        Streaming,
        {
            "chunk": TensorSpec(shape=("batch", 2, 16)),
            "cache": TensorSpec(shape=("batch", 2, 4)),
            "state": TensorSpec(shape=("batch", WIDTH)),
        },
        _BATCH,
        ("answer", "next_cache", "next_state"),
    ),
    Subject(
        "mel",
        Mel,
        {"audio": TensorSpec(shape=("batch", "samples"), range=(-1, 1))},
        {"batch": DimRange(max=4), "samples": DimRange(min=128, opt=512, max=2048)},
    ),
    Subject("dilated", Dilated, {"signal": TensorSpec(shape=("batch", 4, "time"))}, _TIME),
    Subject("forecast", Forecast, _SERIES, _BATCH),
    Subject(
        "encoder layer",
        Encoder,
        {
            "frames": TensorSpec(shape=("batch", 10, WIDTH)),
            "padding": TensorSpec(shape=("batch", 10), dtype="bool"),
        },
        _BATCH,
    ),
    Subject("counts", Counts, _SERIES, _BATCH, ("sums", "quantile", "above")),
)
