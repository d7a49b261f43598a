"""Attention is found in every form that PyTorch's exporters, and people, write it in."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx_ir
import pytest
import torch
from onnx_ir import Model
from torch import nn
from torch.nn import functional

from converters.graph.flow.attention import has_attention, weighted_sums

Mix = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Mixes values by queries and keys, [batch, heads, tokens, size] each."""


def causal_mask(tokens: int) -> torch.Tensor:
    return torch.full((tokens, tokens), -math.inf).triu(1)


def plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return (query @ key.transpose(-2, -1) / 2).softmax(-1) @ value


def masked_after(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    shares = (query @ key.mT).softmax(-1)
    return shares.masked_fill(shares < 0.1, 0.0) @ value


def head_mask(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return ((query @ key.mT).softmax(-1) * (query.mean((0, 2, 3)) > 0)[:, None, None]) @ value


def decomposed(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    scores = query @ key.mT
    shares = (scores - scores.amax(-1, keepdim=True)).exp()
    return shares / shares.sum(-1, keepdim=True) @ value


def by_batched_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    rows = [part.flatten(0, 1) for part in (query, key, value)]
    shares = torch.bmm(rows[0], rows[1].mT).softmax(-1)
    return torch.bmm(shares, rows[2]).view(value.shape)


def by_einsum(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    shares = torch.einsum("bhqd,bhkd->bhqk", query, key).softmax(-1)
    return torch.einsum("bhqk,bhkd->bhqd", shares, value)


def fused(**options: object) -> Mix:
    def mix(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(query, key, value, **options)  # type: ignore[arg-type]

    return mix


def padded(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    mask = key.sum(-1)[:, :1, None] > 0
    return functional.scaled_dot_product_attention(query, key, value, mask)


def grouped_heads(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    key, value = key[:, :1], value[:, :1]
    return functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)


def repeated_heads(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    key, value = (part[:, :1].repeat_interleave(2, 1) for part in (key, value))
    return plain(query, key, value)


FORMS: dict[str, Mix] = {
    "plain": plain,
    "masked after the softmax": masked_after,
    "masked heads": head_mask,
    "decomposed": decomposed,
    "batched products": by_batched_products,
    "einsum": by_einsum,
    "scaled dot product": fused(),
    "causal": fused(is_causal=True),
    "additive mask": fused(attn_mask=causal_mask(6)),
    "boolean mask": fused(attn_mask=torch.ones(6, 6, dtype=torch.bool).tril()),
    "padded": padded,
    "grouped heads": grouped_heads,
    "repeated heads": repeated_heads,
}


class Attend(nn.Module):
    """One attention of two heads over x, [batch, 6 tokens, 8]."""

    def __init__(self, mix: Mix) -> None:
        super().__init__()
        self.mix = mix
        self.parts, self.last = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.parts(x).view(-1, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = self.mix(query, key, value)
        return self.last(mixed.transpose(1, 2).flatten(2))


def export(model: nn.Module, folder: Path, dynamo: bool = True, opset: int = 20) -> Model:
    path = folder / "graph.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (torch.randn(2, 6, 8),),
            str(path),
            dynamo=dynamo,
            opset_version=opset,
            verbose=False,
        )
    return onnx_ir.load(str(path))


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_found_once(form: str, tmp_path: Path) -> None:
    graph = export(Attend(FORMS[form]), tmp_path)
    assert has_attention(graph)
    [product] = weighted_sums(graph)
    assert product.op_type in ("MatMul", "Einsum")


@pytest.mark.parametrize("form", ["plain", "boolean mask", "causal"])
def test_the_older_exporters_forms_are_found(form: str, tmp_path: Path) -> None:
    graph = export(Attend(FORMS[form]), tmp_path, dynamo=False, opset=17)
    assert len(weighted_sums(graph)) == 1


def test_an_attention_that_is_one_operator_is_found(tmp_path: Path) -> None:
    graph = export(Attend(fused(is_causal=True)), tmp_path, opset=23)
    assert any(node.op_type == "Attention" for node in graph.graph)
    assert has_attention(graph)
    assert weighted_sums(graph) == [], "it is inside the operator"


class Gated(nn.Module):
    """A softmax that weighs channels, then a layer with a weight: no attention."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).softmax(-1) * x)


def test_a_softmax_before_a_layer_with_weights_is_no_attention(tmp_path: Path) -> None:
    assert not has_attention(export(Gated(), tmp_path))
