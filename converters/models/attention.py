"""Attention with removable heads: nn.MultiheadAttention ties their number to the model's width."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from converters.models.parts import put


class HeadAttention(nn.Module):
    """Attention with any number of heads; its parameters are named as nn.MultiheadAttention's."""

    # If this is true, nn.TransformerEncoderLayer uses a kernel of its own, which reads the weights
    # of the attention and assumes that heads times their size is the width of the model.
    _qkv_same_embed_dim = False

    def __init__(self, origin: nn.MultiheadAttention) -> None:
        """Take over the parameters of `origin`, which must be one that `replaceable` accepts."""
        super().__init__()
        self.embed_dim = origin.embed_dim
        self.num_heads, self.head_dim = origin.num_heads, origin.head_dim
        self.batch_first = bool(origin.batch_first)
        self.in_proj_weight = origin.in_proj_weight
        self.in_proj_bias: torch.Tensor | None = origin.in_proj_bias
        self.out_proj = origin.out_proj

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute nn.MultiheadAttention's result in eval mode, with the remaining heads.

        As there, `is_causal` is only a hint at the content of `attn_mask`. Raises
        NotImplementedError for masks per head, and for a sample without a batch.
        """
        if query.dim() != 3 or (attn_mask is not None and attn_mask.dim() != 2):
            raise NotImplementedError(
                "HeadAttention supports neither inputs without a batch nor masks per head"
            )
        queries, keys, values = self._projected(query, key, value)
        mask = _merged(attn_mask, key_padding_mask, queries.dtype)
        weights: torch.Tensor | None = None
        if need_weights:
            scores = queries @ keys.transpose(-2, -1) / math.sqrt(self.head_dim)
            shares = (scores if mask is None else scores + mask).softmax(-1)
            mixed = shares @ values
            weights = shares.mean(1) if average_attn_weights else shares
        else:
            mixed = functional.scaled_dot_product_attention(queries, keys, values, mask)
        batch, _, tokens, _ = mixed.shape
        inner = self.num_heads * self.head_dim
        output = self.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, inner))
        return output if self.batch_first else output.transpose(0, 1), weights

    def _projected(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Project query, key and value to [batch, heads, tokens, head size] each.

        Uses one product if they are the same tensor.
        """
        same = query is key and key is value
        if not self.batch_first:
            query, key, value = (tensor.transpose(0, 1) for tensor in (query, key, value))
        if same:
            batch, tokens, _ = query.shape
            packed = functional.linear(query, self.in_proj_weight, self.in_proj_bias)
            split = packed.view(batch, tokens, 3, self.num_heads, self.head_dim)
            parts = split.permute(2, 0, 3, 1, 4)
            return parts[0], parts[1], parts[2]
        return self._part(query, 0), self._part(key, 1), self._part(value, 2)

    def _part(self, tensor: torch.Tensor, part: int) -> torch.Tensor:
        """Compute one of the three products [batch, heads, tokens, head size]."""
        inner, bias = self.num_heads * self.head_dim, self.in_proj_bias
        first, last = part * inner, (part + 1) * inner
        part_bias = None if bias is None else bias[first:last]
        product = functional.linear(tensor, self.in_proj_weight[first:last], part_bias)
        batch, tokens = tensor.shape[:2]
        return product.view(batch, tokens, self.num_heads, self.head_dim).transpose(1, 2)

    def extra_repr(self) -> str:
        """Describe the heads, for repr()."""
        return f"{self.num_heads} heads of {self.head_dim}"

    def scores(self, gradients: bool = False) -> torch.Tensor:
        """Return the importance of each head [heads].

        It is the squared norm of its weights, or of weight times gradient.
        """
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
            if self.in_proj_bias is not None:
                bias = self.in_proj_bias.view(3, old, size)[:, kept]
                self.in_proj_bias = nn.Parameter(bias.reshape(-1).clone())
            outer = self.out_proj.weight.view(width, old, size)[:, kept]
            self.out_proj.weight = nn.Parameter(outer.reshape(width, -1).clone())
        self.num_heads, self.out_proj.in_features = len(kept), len(kept) * size


def _merged(
    mask: torch.Tensor | None, padding: torch.Tensor | None, dtype: torch.dtype
) -> torch.Tensor | None:
    """Merge a mask [queries, keys] and a padding mask [batch, keys] to a summand of the scores."""
    if padding is None:
        return None if mask is None else _added(mask, dtype)
    rows = _added(padding, dtype)[:, None, None, :]
    return rows if mask is None else rows + _added(mask, dtype)


def _added(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the mask as a summand of scores, minus infinity for true."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))
    return mask.to(dtype)


def replaceable(module: nn.Module) -> bool:
    """Whether HeadAttention can take over this module's parameters."""
    return (
        type(module) is nn.MultiheadAttention
        and module._qkv_same_embed_dim
        and module.bias_k is None
        and not module.add_zero_attn
    )


def replace_attentions(root: nn.Module, paths: Sequence[str] | None = None) -> list[str]:
    """Replace all attentions, or those at `paths`, by HeadAttention; return their module paths."""
    replaced = []
    for path, module in list(root.named_modules()):
        chosen = bool(path) and replaceable(module) if paths is None else path in paths
        if chosen:
            assert isinstance(module, nn.MultiheadAttention)
            put(root, path, HeadAttention(module))
            replaced.append(path)
    return replaced
