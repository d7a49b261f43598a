"""Models of tokens: an encoder with a mask, a causal tagger, two towers for pictures and texts."""

from __future__ import annotations

import torch
from images import Block
from torch import Tensor, nn
from torch.nn import functional
from trained import settle

_MASKED = -1e4


def encoder() -> nn.Module:
    """An encoder of the BERT kind: ids and mask in, a pooled answer and states of tokens out."""
    return settle(_Encoder(), seed=11)


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(200, 32), nn.Embedding(48, 32)
        self.norm = nn.LayerNorm(32)
        self.blocks = nn.ModuleList(Block(32, 4) for _ in range(2))
        self.pool, self.head = nn.Linear(32, 32), nn.Linear(32, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.norm(self.words(input_ids) + self.places(places))
        weights = self.norm.weight
        added = (1 - attention_mask.to(weights.dtype))[:, None, None, :] * _MASKED
        for block in self.blocks:
            x = block(x, added)
        return self.head(torch.tanh(self.pool(x[:, 0]))), x


def tagger() -> nn.Module:
    """A causal tagger: a class for each token from it and those before it."""
    return settle(_Tagger(), seed=12)


class _Tagger(nn.Module):
    causal: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(120, 24)
        self.block = Block(24, 3)
        self.conv = nn.Conv1d(24, 24, 3)
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 7)
        causal = torch.full((40, 40), _MASKED).triu(1)
        self.register_buffer("causal", causal)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        x = functional.elu(self.conv(functional.pad(x.transpose(1, 2), (2, 0)))).transpose(1, 2)
        x = self.block(x, self.causal[: x.shape[1], : x.shape[1]])
        return self.head(self.norm(x))


def two_tower() -> nn.Module:
    """Pictures and texts in one space, and the logits of each pair."""
    return settle(_TwoTower(), seed=13)


class _TwoTower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.look = nn.Conv2d(3, 24, 8, stride=8), Block(24, 3)
        self.words, self.places, self.read = (
            nn.Embedding(90, 24),
            nn.Embedding(12, 24),
            Block(24, 3),
        )
        self.image_head, self.text_head = nn.Linear(24, 16), nn.Linear(24, 16)
        self.scale = nn.Parameter(torch.tensor(2.3))

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.look(self.patches(image).flatten(2).transpose(1, 2)).mean(1)
        places = torch.arange(text.shape[1], device=text.device)
        words = self.read(self.words(text) + self.places(places))
        last = text.argmax(1)  # the token with the largest id ends a text
        index = last[:, None, None].expand(-1, 1, words.shape[2])
        end = words.gather(1, index)[:, 0]
        seen = functional.normalize(self.image_head(x), dim=1)
        read = functional.normalize(self.text_head(end), dim=1)
        return self.scale.exp() * seen @ read.T, seen, read
