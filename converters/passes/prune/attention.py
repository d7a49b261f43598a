"""Attention whose heads can go: nn.MultiheadAttention ties their number to the width of the model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class HeadAttention(nn.Module):
    """Self-attention with any number of heads; its parameters have the names that nn.MultiheadAttention's have."""

    def __init__(self, origin: nn.MultiheadAttention) -> None:
        """Take over the parameters of `origin`, which must be one that `replaceable` accepts."""
        super().__init__()
        self.num_heads, self.head_dim = origin.num_heads, origin.head_dim
        self.in_proj_weight, self.in_proj_bias = origin.in_proj_weight, origin.in_proj_bias
        self.out_proj = origin.out_proj

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, need_weights: bool = False
    ) -> tuple[torch.Tensor, None]:
        """[batch, tokens, width] to the same; key and value are the query, and no weights are returned."""
        batch, tokens, _ = query.shape
        packed = functional.linear(query, self.in_proj_weight, self.in_proj_bias)
        parts = packed.view(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        joined = mixed.transpose(1, 2).reshape(batch, tokens, self.num_heads * self.head_dim)
        return self.out_proj(joined), None

    def extra_repr(self) -> str:
        """What tells it from others, beside its layers."""
        return f"{self.num_heads} heads of {self.head_dim}"

    def scores(self, gradients: bool = False) -> torch.Tensor:
        """The worth of each head [heads]: the squared norm of its weights, or of weight times gradient."""
        heads, size, width = self.num_heads, self.head_dim, self.out_proj.out_features
        inner, outer = self.in_proj_weight, self.out_proj.weight
        if gradients and inner.grad is not None and outer.grad is not None:
            inner, outer = inner * inner.grad, outer * outer.grad  # type: ignore[assignment]
        first = inner.detach().view(3, heads, size, -1).pow(2).sum((0, 2, 3))
        return first + outer.detach().view(width, heads, size).pow(2).sum((0, 2))

    def keep(self, heads: Sequence[int]) -> None:
        """Remove all heads but these."""
        old, size, width = self.num_heads, self.head_dim, self.out_proj.out_features
        kept = list(heads)
        with torch.no_grad():
            inner = self.in_proj_weight.view(3, old, size, -1)[:, kept]
            self.in_proj_weight = nn.Parameter(inner.reshape(3 * len(kept) * size, -1).clone())
            bias = self.in_proj_bias.view(3, old, size)[:, kept]
            self.in_proj_bias = nn.Parameter(bias.reshape(-1).clone())
            outer = self.out_proj.weight.view(width, old, size)[:, kept]
            self.out_proj.weight = nn.Parameter(outer.reshape(width, -1).clone())
        self.num_heads, self.out_proj.in_features = len(kept), len(kept) * size


def replaceable(module: nn.Module) -> bool:
    """Whether HeadAttention computes what this module does, as vision transformers call it."""
    return (
        type(module) is nn.MultiheadAttention
        and module._qkv_same_embed_dim
        and module.in_proj_bias is not None
        and module.bias_k is None
        and not module.add_zero_attn
        and bool(module.batch_first)
    )


def replace(root: nn.Module, paths: Sequence[str] | None = None) -> list[str]:
    """Put HeadAttention in the place of each attention, or of those at `paths`; return their module paths."""
    found = []
    for path, module in list(root.named_modules()):
        if path and replaceable(module) if paths is None else path in paths:
            assert isinstance(module, nn.MultiheadAttention)
            parent, _, name = path.rpartition(".")
            setattr(root.get_submodule(parent), name, HeadAttention(module))
            found.append(path)
    return found
