"""Classifiers and regressions with real samples, for faults of parts and of lossy artifacts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from runtimes.spec import DimRange, TensorSpec
from runtimes.validator.probes import Probe
from tests.adversary.harness import Subject, real, real_batches

FEATURES, CLASSES = 24, 10
_INPUTS = {"features": TensorSpec(shape=("batch", FEATURES))}
_DIMS = {"batch": DimRange(max=8)}
TEN = {"batch": DimRange(opt=10, max=16)}


def _centres() -> np.ndarray[Any, Any]:
    """The middle of each class."""
    return np.random.default_rng(7).standard_normal((CLASSES, FEATURES))


def _samples(count: int, seed: int = 1) -> tuple[list[dict[str, np.ndarray[Any, Any]]], list[int]]:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, CLASSES, count)
    rows = _centres()[classes] + 0.7 * rng.standard_normal((count, FEATURES))
    return [{"features": row[None].astype(np.float32)} for row in rows], classes.tolist()


def labelled() -> list[Probe]:
    """500 samples with their classes, which the model almost always finds."""
    features, classes = _samples(500)
    rows = np.concatenate([arrays["features"] for arrays in features])
    return real_batches("features", rows, classes, TEN["batch"].best)


def bare() -> list[Probe]:
    """500 samples without labels."""
    return [replace(probe, labels=()) for probe in labelled()]


def repeated() -> list[Probe]:
    """20 samples, each of them 100 times."""
    features, classes = _samples(20)
    rows = np.concatenate([arrays["features"] for arrays in features] * 100)
    return real_batches("features", rows, classes * 100, 10)


def of_another_model() -> list[Probe]:
    """500 samples whose labels count from one."""
    return [
        replace(probe, labels=tuple((label + 1) % CLASSES for label in probe.labels))
        for probe in labelled()
    ]


def unlabelled() -> list[Probe]:
    """60 samples."""
    return real(_samples(60)[0])


def few() -> list[Probe]:
    """24 samples, as many as a recipe that does not say gets."""
    return real(_samples(24)[0])


class Nearest(nn.Module):
    """The nearest centre, through a hidden layer: logits of a standard deviation of about one."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(FEATURES, 64)
        self.head = nn.Linear(64, CLASSES)
        with torch.no_grad():
            hidden = torch.tanh(self.hidden(torch.tensor(_centres(), dtype=torch.float32)))
            centred = hidden - hidden.mean(0)
            self.head.weight.copy_(0.3 * centred)
            self.head.bias.copy_(-0.3 * (centred @ hidden.mean(0)) - 0.15 * centred.square().sum(1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.hidden(features)))


class Probabilities(Nearest):
    """Probabilities of the classes."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (4 * super().forward(features)).softmax(-1)


class Masked(Nearest):
    """Classes that a sample cannot have are masked: -Inf."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features).masked_fill(features[:, :CLASSES] > 1, float("-inf"))


class Binary(Nearest):
    """One score for two classes: the second if it is above zero."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits = super().forward(features)
        return logits[:, :1] - logits[:, 5:6]


class Counted(Nearest):
    """Logits, and how many they are: a constant."""

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = super().forward(features)
        return logits, torch.full((len(features),), logits.shape[1])


class OneLarge(Nearest):
    """One of the logits is about 1,000: a class that is always first."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits = super().forward(features)
        return torch.cat([logits[:, :3], 1000 + logits[:, 3:4], logits[:, 4:]], 1)


class Regression(nn.Module):
    """A number that varies a little around a large one."""

    def __init__(self, offset: float, spread: float, outputs: int = 1) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(FEATURES, 32), nn.Linear(32, outputs)
        self.offset, self.spread = offset, spread

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.offset + self.spread * self.head(torch.tanh(self.hidden(features)))


class Tasks(nn.Module):
    """A large, a small and a tiny output."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(FEATURES, 16)
        self.large, self.small, self.tiny = nn.Linear(16, 4), nn.Linear(16, 4), nn.Linear(16, 4)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        hidden = torch.tanh(self.body(features))
        return 1000 * self.large(hidden), self.small(hidden), 1e-3 * self.tiny(hidden)


class Decisions(nn.Module):
    """A class, whether it is sure, and the score."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Nearest()

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = self.model(features)
        best = logits.amax(-1)
        return logits.argmax(-1), logits > 0, best


def _subject(name: str, build: Any, samples: Any = few, **fields: Any) -> Subject:
    dims = _DIMS if samples in (few, unlabelled) else TEN
    return Subject(name, build, _INPUTS, dims, samples=samples, **fields)


CLASSIFIER = _subject("classifier", Nearest, labelled, task="classification", outputs=("logits",))
UNLABELLED = _subject("unlabelled", Nearest, unlabelled, task="classification", outputs=("logits",))
PROBABILITIES = _subject("probabilities", Probabilities, labelled, task="classification")
MASKED = _subject("masked classes", Masked, unlabelled, outputs=("logits",))
ONE_LARGE = _subject("one large logit", OneLarge, unlabelled, outputs=("logits",))
KELVIN = _subject("kelvin", lambda: Regression(294, 1.4))
OFFSET = _subject("offset", lambda: Regression(300, 1.0, 6))
TASKS = _subject("tasks", Tasks, outputs=("large", "small", "tiny"))
DECISIONS = _subject("decisions", Decisions, unlabelled, outputs=("best", "positive", "score"))
MANY_DECISIONS = _subject(
    "many decisions", Decisions, labelled, outputs=("best", "positive", "score")
)
BINARY = _subject("binary", Binary, bare, task="classification", outputs=("logits",))
COUNTED = _subject("counted", Counted, outputs=("logits", "count"))
REPEATED = _subject("repeated", Nearest, repeated, task="classification", outputs=("logits",))
RELABELLED = _subject(
    "relabelled", Nearest, of_another_model, task="classification", outputs=("logits",)
)
