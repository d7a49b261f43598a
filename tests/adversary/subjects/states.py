"""Models with a state, with NaN and Inf of their own, and with outputs that are inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from runtimes.spec import DimRange, TensorSpec
from tests.adversary.harness import Subject

_X = {"x": TensorSpec(shape=("batch", 6))}
_DIMS = {"batch": DimRange(max=8)}


class Step(nn.Module):
    """One step of a recurrent filter: the state is an input and an output."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(6 + 8, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state = torch.tanh(self.inner(torch.cat([x, state], 1)))
        return self.out(state), state


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(6, 12), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(torch.tanh(self.hidden(x)))


class Passing(Plain):
    """Returns its input too."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward(x), x


class Counting(Plain):
    """Adds up what it has seen in a buffer, and answers by it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sum", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer = super().forward(x)
        self.sum += answer.detach().mean(0)
        return answer + self.sum


class Counted(Plain):
    """Counts its calls in a buffer on which no answer depends."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(x)


class Dropping(Plain):
    """Dropout that stays on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(super().forward(x), 0.3, training=True)


class Logarithm(Plain):
    """NaN for one half of ordinary inputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).log()


class Overflowing(Plain):
    """Inf in float32 where float64 is finite."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (100 + 50 * super().forward(x)).exp()


class LogCounts(Plain):
    """-Inf where a count is zero, on ordinary inputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).relu().log()


class Norm(Plain):
    """A norm with an epsilon that float16 does not hold."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x / (x.square().sum(1, keepdim=True) + 1e-12).sqrt())


class Constant(Plain):
    """Depends on nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 0 + 1


STEP = Subject(
    "step",
    Step,
    {**_X, "state": TensorSpec(shape=("batch", 8))},
    _DIMS,
    ("y", "next_state"),
)
PLAIN = Subject("plain", Plain, _X, _DIMS)
PASSING = Subject("passing", Passing, _X, _DIMS, ("y", "copy"))
COUNTING = Subject("counting", Counting, _X, _DIMS)
COUNTED = Subject("counted", Counted, _X, _DIMS)
DROPPING = Subject("dropping", Dropping, _X, _DIMS)
LOGARITHM = Subject("logarithm", Logarithm, _X, _DIMS)
OVERFLOWING = Subject("overflowing", Overflowing, _X, _DIMS)
LOG_COUNTS = Subject("log counts", LogCounts, _X, _DIMS)
NORM = Subject("norm", Norm, _X, _DIMS)
CONSTANT = Subject("constant", Constant, _X, _DIMS)
