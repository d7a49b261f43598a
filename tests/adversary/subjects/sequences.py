"""Models of tokens, masks, lengths and signals."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from runtimes.spec import DimRange, TensorSpec
from tests.adversary.harness import Subject

WIDTH = 16


class Encoder(nn.Module):
    """A small BERT: embeddings, one layer of masked attention, a head on the first token."""

    def __init__(self, ids: int = 500, longest: int = 256) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(ids, WIDTH), nn.Embedding(longest, WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)

    def encode(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        places = torch.arange(ids.shape[1])
        hidden = self.tokens(ids) + self.places(places)
        query, key, value = self.qkv(hidden).chunk(3, -1)
        scores = query @ key.transpose(1, 2) / WIDTH**0.5
        scores = scores.masked_fill(mask[:, None, :] == 0, float("-inf"))
        return self.norm(hidden + self.out(scores.softmax(-1) @ value))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encode(ids, mask)
        weights = mask[..., None].to(hidden.dtype)
        return self.head((hidden * weights).sum(1) / weights.sum(1))


class Words(nn.Module):
    """A mean of embeddings: only the ids matter."""

    def __init__(self, ids: int) -> None:
        super().__init__()
        self.tokens, self.head = nn.Embedding(ids, WIDTH), nn.Linear(WIDTH, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.tokens(ids).mean(1))


class Codes(nn.Module):
    """The code of each word: a large whole number, a little more than `first`."""

    def __init__(self, step: int, first: int = 0) -> None:
        super().__init__()
        self.tokens, self.head = nn.Embedding(500, WIDTH), nn.Linear(WIDTH, 60)
        self.step, self.first = step, first

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.first + self.step * self.head(self.tokens(ids)).argmax(-1)


class Pointer(nn.Module):
    """Logits over the places of a sequence, -Inf where it is masked."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Conv1d(4, 1, 3, padding=1)

    def forward(self, signal: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.score(signal)[:, 0].masked_fill(mask == 0, float("-inf"))


class Recurrent(nn.Module):
    """A GRU over frames, read at the length of each row."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.GRU(4, WIDTH, batch_first=True), nn.Linear(WIDTH, 4)

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        states, _ = self.cells(frames)
        last = (lengths - 1)[:, None, None].expand(-1, 1, WIDTH)
        return self.head(states.gather(1, last)[:, 0])


class Pair(nn.Module):
    """Attention of one sequence to another, each of its own length."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, WIDTH), nn.Linear(4, WIDTH)

    def forward(self, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        keys = self.right(memory)
        attention = (self.left(query) @ keys.transpose(1, 2)).softmax(-1)
        return F.gelu(attention @ keys)


_TIME = DimRange(min=1, opt=32, max=256)
_TOKENS = TensorSpec(shape=("batch", "time"), dtype="int64", range=(0, 499))
_MASK = TensorSpec(shape=("batch", "time"), dtype="int64", kind="mask")
_DIMS = {"batch": DimRange(max=16), "time": _TIME}
ENCODER = Subject("encoder", Encoder, {"ids": _TOKENS, "mask": _MASK}, _DIMS, ("logits",))
WORDS = Subject("words", lambda: Words(500), {"ids": _TOKENS}, _DIMS)
VOCABULARY = Subject(
    "vocabulary",
    lambda: Words(70_000),
    {"ids": TensorSpec(shape=("batch", "time"), dtype="int64", range=(0, 69_999))},
    _DIMS,
)
_LONG = {"ids": TensorSpec(shape=("batch", 512), dtype="int64", range=(0, 499))}
CODES = Subject("codes", lambda: Codes(2000), _LONG, {"batch": DimRange(max=4)})
SECONDS = Subject("seconds", lambda: Codes(1, 1_700_000_000), _LONG, {"batch": DimRange(max=4)})
HUGE = Subject("huge codes", lambda: Codes(1, 2**60), _LONG, {"batch": DimRange(max=4)})
POINTER = Subject(
    "pointer",
    Pointer,
    {"signal": TensorSpec(shape=("batch", 4, "time")), "mask": _MASK},
    {"batch": DimRange(max=8), "time": DimRange(min=4, opt=16, max=64)},
    ("logits",),
)
RECURRENT = Subject(
    "recurrent",
    Recurrent,
    {
        "frames": TensorSpec(shape=("batch", "time", 4)),
        "lengths": TensorSpec(shape=("batch",), dtype="int64", kind="length"),
    },
    {"batch": DimRange(max=8), "time": DimRange(min=2, opt=24, max=100)},
)
PAIR = Subject(
    "pair",
    Pair,
    {
        "query": TensorSpec(shape=("batch", "short", 4)),
        "memory": TensorSpec(shape=("batch", "long", 4)),
    },
    {
        "batch": DimRange(max=4),
        "short": DimRange(min=1, opt=16, max=64),
        "long": DimRange(min=1, opt=16, max=64),
    },
)
