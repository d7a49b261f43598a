"""Attention whose heads can go computes what nn.MultiheadAttention does, however it is called."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning", reason="structured pruning needs it")

from torch import nn  # noqa: E402

from converters.models.attention import HeadAttention  # noqa: E402

WIDTH, HEADS, BATCH, TOKENS, OTHERS = 16, 4, 2, 5, 7


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@settings(max_examples=30, deadline=None)
@given(
    batch_first=st.booleans(),
    bias=st.booleans(),
    cross=st.booleans(),
    padding=st.sampled_from(["", "bool", "float"]),
    mask=st.sampled_from(["", "bool", "float"]),
    need_weights=st.booleans(),
    average=st.booleans(),
)
def test_it_computes_what_the_original_does(
    batch_first: bool,
    bias: bool,
    cross: bool,
    padding: str,
    mask: str,
    need_weights: bool,
    average: bool,
) -> None:
    torch.manual_seed(0)
    origin = nn.MultiheadAttention(WIDTH, HEADS, bias=bias, batch_first=batch_first).eval()
    query = torch.randn(BATCH, TOKENS, WIDTH)
    key = torch.randn(BATCH, OTHERS if cross else TOKENS, WIDTH)
    if not batch_first:
        query, key = query.transpose(0, 1), key.transpose(0, 1)
    inputs = (query, key, key.flip(-1)) if cross else (query, query, query)
    keys = OTHERS if cross else TOKENS
    options: dict[str, Any] = {"need_weights": need_weights, "average_attn_weights": average}
    if padding:
        options["key_padding_mask"] = _mask(
            torch.arange(keys).expand(BATCH, keys) >= keys - 2, padding
        )
    if mask:
        options["attn_mask"] = _mask(torch.ones(TOKENS, keys).triu(1) > 0, mask)
    with torch.no_grad():
        torch.testing.assert_close(
            HeadAttention(origin)(*inputs, **options), origin(*inputs, **options)
        )


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated.*:DeprecationWarning")
@pytest.mark.parametrize("cross", [False, True])
def test_it_can_be_scripted(cross: bool) -> None:
    attention = HeadAttention(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)).eval()
    x = torch.randn(BATCH, TOKENS, WIDTH)
    key = x.flip(1) if cross else x
    padding = torch.arange(TOKENS).expand(BATCH, TOKENS) >= TOKENS - 1
    with torch.no_grad():
        torch.testing.assert_close(
            torch.jit.script(attention)(x, key, key, padding), attention(x, key, key, padding)
        )


def _mask(where: torch.Tensor, kind: str) -> torch.Tensor:
    return where if kind == "bool" else torch.zeros(where.shape).masked_fill(where, -2.0)
