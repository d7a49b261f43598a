"""Attention whose heads can go computes what nn.MultiheadAttention does, however it is called."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning", reason="structured pruning needs it")

from torch import nn  # noqa: E402

from converters.passes.prune.attention import HeadAttention, replace_same  # noqa: E402
from converters.passes.prune.options import PruneOptions  # noqa: E402
from converters.passes.prune.structured import Samples, prune_structured  # noqa: E402

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
    batch_first: bool, bias: bool, cross: bool, padding: str, mask: str, need_weights: bool, average: bool
) -> None:
    torch.manual_seed(0)
    origin = nn.MultiheadAttention(WIDTH, HEADS, bias=bias, batch_first=batch_first).eval()
    sizes = [(BATCH, TOKENS, WIDTH), (BATCH, OTHERS if cross else TOKENS, WIDTH)]
    query, key = (torch.randn(one if batch_first else (one[1], one[0], one[2])) for one in sizes)
    given = (query, key, key.flip(-1)) if cross else (query, query, query)
    keys = OTHERS if cross else TOKENS
    named: dict[str, Any] = {"need_weights": need_weights, "average_attn_weights": average}
    if padding:
        named["key_padding_mask"] = _mask(torch.arange(keys).expand(BATCH, keys) >= keys - 2, padding)
    if mask:
        named["attn_mask"] = _mask(torch.ones(TOKENS, keys).triu(1) > 0, mask)
    with torch.no_grad():
        torch.testing.assert_close(HeadAttention(origin)(*given, **named), origin(*given, **named))


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


@pytest.mark.parametrize("batch_first", [False, True])
def test_pytorchs_own_encoder_loses_heads_and_neurons(batch_first: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=batch_first)
    module = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, 3)).eval()
    x = torch.randn(3, 6, 32)

    def run(one: nn.Module) -> Any:
        return one(x)

    with torch.no_grad():
        expected = run(module)
        assert len(replace_same(module, run)) == 2
        torch.testing.assert_close(run(module), expected, rtol=1e-4, atol=1e-5)
    smaller, removed = prune_structured(module, PruneOptions(structured=0.4), Samples(run, run))
    assert {name.rpartition(".")[2] for name in removed.layers} == {"self_attn", "linear1"}
    with torch.no_grad():
        assert run(smaller).shape == expected.shape


class ByHead(nn.Module):
    """Attention with a mask for each head, which only the original takes; two layers beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.inner, self.outer = nn.Linear(WIDTH, 64), nn.Linear(64, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(len(x) * HEADS, x.shape[1], x.shape[1]).triu(1) > 0
        x = x + self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]
        return x + self.outer(torch.relu(self.inner(x)))


def test_attention_that_is_asked_for_more_stays_and_the_rest_becomes_smaller() -> None:
    torch.manual_seed(0)
    module, x = ByHead().eval(), torch.randn(2, TOKENS, WIDTH)

    def run(one: nn.Module) -> Any:
        return one(x)

    origin = copy.deepcopy(module)
    smaller, removed = prune_structured(module, PruneOptions(structured=0.3), Samples(run, run))
    assert removed.layers.keys() == {"inner"}
    assert type(smaller.get_submodule("attention")) is nn.MultiheadAttention
    with torch.no_grad():
        torch.testing.assert_close(
            smaller.get_submodule("attention")(x, x, x)[0], origin.get_submodule("attention")(x, x, x)[0]
        )
