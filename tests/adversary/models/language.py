"""Correct models of tokens, of the kinds that people convert."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from runtimes.spec import DimRange, TensorSpec
from tests.adversary.harness import Subject

WIDTH, IDS, LONGEST = 16, 100, 40


class Bert(nn.Module):
    """Three embeddings, masked attention with -Inf, a pooled first token."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds = nn.Embedding(IDS, WIDTH), nn.Embedding(2, WIDTH)
        self.places, self.norm = nn.Embedding(LONGEST, WIDTH), nn.LayerNorm(WIDTH, eps=1e-12)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, WIDTH))
        self.pool, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        places = torch.arange(input_ids.shape[1])
        x = self.words(input_ids) + self.kinds(token_type_ids) + self.places(places)
        x = self.norm(x)
        q, k, v = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        scores = q @ k.transpose(-1, -2) / 8**0.5
        scores = scores.masked_fill(attention_mask[:, None, None, :] == 0, float("-inf"))
        x = self.norm(x + self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2)))
        x = x + self.mlp(x)
        return {"logits": self.head(torch.tanh(self.pool(x[:, 0]))), "hidden": x}


class Gpt(nn.Module):
    """A causal layer and logits over the vocabulary by the embedding's own table."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(IDS, WIDTH), nn.Embedding(LONGEST, WIDTH)
        self.norm, self.qkv = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        query, key, value = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.norm(x) @ self.words.weight.T


class Llama(nn.Module):
    """RMS normalization, rotary places, a gated layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.weight = nn.Embedding(IDS, WIDTH), nn.Parameter(torch.rand(WIDTH) + 0.5)
        self.query, self.key = nn.Linear(WIDTH, WIDTH, False), nn.Linear(WIDTH, WIDTH, False)
        self.gate, self.up = nn.Linear(WIDTH, 32, False), nn.Linear(WIDTH, 32, False)
        self.down = nn.Linear(32, WIDTH, False)

    def _norm(self, x: torch.Tensor) -> torch.Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * self.weight

    def _rotated(self, x: torch.Tensor) -> torch.Tensor:
        places = torch.arange(x.shape[1]).to(x.dtype)
        angles = places[:, None] * 10_000 ** (-torch.arange(8).to(x.dtype) / 8)
        a, b = x.chunk(2, -1)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        y = self._norm(x)
        scores = self._rotated(self.query(y)) @ self._rotated(self.key(y)).transpose(1, 2)
        hidden = torch.ones_like(scores, dtype=torch.bool).triu(1)
        x = x + scores.masked_fill(hidden, float("-inf")).softmax(-1) @ y
        y = self._norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Clip(nn.Module):
    """A picture and a text as unit vectors, and their likeness."""

    def __init__(self) -> None:
        super().__init__()
        self.picture, self.words = nn.Conv2d(3, WIDTH, 8, 8), nn.Embedding(IDS, WIDTH)
        self.image, self.text = nn.Linear(WIDTH, 12), nn.Linear(WIDTH, 12)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(
        self, pixel_values: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        image = F.normalize(self.image(self.picture(pixel_values).mean((2, 3))), dim=-1)
        mask = attention_mask[..., None].to(image.dtype)
        words = (self.words(input_ids) * mask).sum(1) / mask.sum(1)
        text = F.normalize(self.text(words), dim=-1)
        likeness = self.scale.exp() * (image * text).sum(-1)
        return {"image": image, "text": text, "likeness": likeness}


class Decoder(nn.Module):
    """Attention of tokens to a memory of another length."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.attention = (
            nn.Embedding(IDS, WIDTH),
            nn.MultiheadAttention(WIDTH, 2, batch_first=True),
        )
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, IDS)

    def forward(self, ids: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        x = self.norm(x + self.attention(x, memory, memory, need_weights=False)[0])
        return self.head(x).log_softmax(-1)


class TextCnn(nn.Module):
    """Convolutions over tokens, the maximum over time."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(IDS, WIDTH, padding_idx=0)
        self.three, self.five = nn.Conv1d(WIDTH, 8, 3, padding=1), nn.Conv1d(WIDTH, 8, 5, padding=2)
        self.head = nn.Linear(16, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids).transpose(1, 2)
        features = torch.cat([self.three(x), self.five(x)], 1)
        return self.head(F.relu(features).amax(-1))


class Spans(nn.Module):
    """Logits of the start of a span, -Inf where the text is masked, and the best place."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.score = nn.Embedding(IDS, WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        start, end = self.score(torch.tanh(self.words(ids))).unbind(-1)
        start = start.masked_fill(mask == 0, float("-inf"))
        end = end.masked_fill(mask == 0, float("-inf"))
        return start, end, (start[:, :, None] + end[:, None]).flatten(1).argmax(-1)


class Experts(nn.Module):
    """The better two of four experts for each token."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = (
            nn.Linear(WIDTH, 4),
            nn.Parameter(torch.randn(4, WIDTH, WIDTH) / 4),
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        weights, chosen = self.gate(tokens).softmax(-1).topk(2)
        shares = torch.zeros_like(self.gate(tokens)).scatter(-1, chosen, weights)
        return torch.einsum("bte,btd,edo->bto", shares, tokens, self.experts)


_TIME = {"batch": DimRange(max=6), "time": DimRange(min=1, opt=12, max=LONGEST)}
_IDS = TensorSpec(shape=("batch", "time"), dtype="int64", range=(0, IDS - 1))
_MASK = TensorSpec(shape=("batch", "time"), dtype="int64")
MODELS = (
    Subject(
        "bert",
        Bert,
        {
            "input_ids": _IDS,
            "attention_mask": _MASK,
            "token_type_ids": TensorSpec(shape=("batch", "time"), dtype="int64", range=(0, 1)),
        },
        _TIME,
    ),
    Subject("gpt", Gpt, {"ids": _IDS}, _TIME),
    Subject("llama", Llama, {"ids": _IDS}, _TIME),
    Subject(
        "clip",
        Clip,
        {
            "pixel_values": TensorSpec(shape=("batch", 3, 32, 32)),
            "input_ids": _IDS,
            "attention_mask": _MASK,
        },
        _TIME,
    ),
    Subject(
        "decoder",
        Decoder,
        {"ids": _IDS, "memory": TensorSpec(shape=("batch", "past", WIDTH))},
        {**_TIME, "past": DimRange(min=1, opt=8, max=24)},
    ),
    Subject("text cnn", TextCnn, {"ids": _IDS}, _TIME),
    Subject("spans", Spans, {"ids": _IDS, "mask": _MASK}, _TIME, ("start", "end", "best")),
    Subject("experts", Experts, {"tokens": TensorSpec(shape=("batch", "time", WIDTH))}, _TIME),
)
