"""Which attentions can lose heads: those with which the model answers as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning", reason="structured pruning needs it")

from torch import nn  # noqa: E402

from converters.models.attention import HeadAttention  # noqa: E402
from converters.passes.prune.heads import replace_same  # noqa: E402
from converters.passes.prune.structured import PruningInputs, prune_structured  # noqa: E402
from converters.recipe.prune import PruneOptions  # noqa: E402

Forward = Callable[[nn.MultiheadAttention, torch.Tensor], torch.Tensor]


class Attends(nn.Module):
    """An attention that is called in some way."""

    def __init__(self, way: Forward) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(32, 64), nn.Linear(64, 32)
        self.attention, self.way = nn.MultiheadAttention(32, 4, batch_first=True), way

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.way(self.attention, self.outer(torch.relu(self.inner(x))))


def encoder(**options: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, **{"batch_first": True, **options})
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def run(module: nn.Module) -> torch.Tensor:
    return module(torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(1)))


def attentions(module: nn.Module) -> list[str]:
    return [name for name, part in module.named_modules() if isinstance(part, HeadAttention)]


CAUSAL = torch.triu(torch.ones(6, 6, dtype=torch.bool), 1)
PADDED = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
WAYS: dict[str, Forward] = {
    "plain": lambda attend, x: attend(x, x, x)[0],
    "no weights": lambda attend, x: attend(x, x, x, need_weights=False)[0],
    "a causal mask": lambda attend, x: attend(
        x, x, x, attn_mask=CAUSAL, need_weights=False, is_causal=True
    )[0],
    "an added mask": lambda attend, x: attend(
        x, x, x, attn_mask=torch.ones(6, 6).triu(), need_weights=False
    )[0],
    "padding": lambda attend, x: attend(x, x, x, PADDED, need_weights=False)[0],
    "both": lambda attend, x: attend(x, x, x, PADDED, False, CAUSAL)[0],
    "another sequence": lambda attend, x: attend(
        x, x.flip(1) * 2, x.flip(1) * 2, need_weights=False
    )[0],
    "positions on query and key": lambda attend, x: attend(x + 1, x + 1, x, need_weights=False)[0],
    "weights that are read": lambda attend, x: attend(x, x, x)[1] @ x,
}
OTHER: dict[str, Forward] = {
    "a mask for each head": lambda attend, x: attend(x, x, x, attn_mask=CAUSAL.expand(8, 6, 6))[0],
    "no batch": lambda attend, x: torch.stack([attend(row, row, row)[0] for row in x]),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_attention_loses_heads(way: Forward) -> None:
    torch.manual_seed(0)
    module = Attends(way).eval()
    with torch.no_grad():
        expected = run(module)
        assert replace_same(module, run) == ["attention"]
        torch.testing.assert_close(run(module), expected, rtol=1e-4, atol=1e-5)
    smaller, removed = prune_structured(
        Attends(way).eval(), PruneOptions(structured=0.5), PruningInputs(run, run)
    )
    assert "attention" in removed.layers
    assert run(smaller).shape == expected.shape


@pytest.mark.parametrize("way", OTHER.values(), ids=OTHER)
def test_attention_of_another_kind_stays_as_it_is(way: Forward) -> None:
    torch.manual_seed(0)
    module = Attends(way).eval()
    with torch.no_grad():
        expected = run(module)
        assert replace_same(module, run) == []
        assert torch.equal(run(module), expected)
    smaller, removed = prune_structured(
        module, PruneOptions(structured=0.1), PruningInputs(run, run)
    )
    assert removed.layers.keys() == {"inner"}
    assert not attentions(smaller)


@pytest.mark.parametrize(
    "options", [{}, {"norm_first": True, "activation": "gelu"}, {"batch_first": False}]
)
def test_the_encoder_of_torch_loses_heads_and_neurons(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module = encoder(**options).eval()
    with torch.no_grad():
        expected = run(module)
    smaller, removed = prune_structured(
        module, PruneOptions(structured=0.4), PruningInputs(run, run)
    )
    with torch.no_grad():
        torch.testing.assert_close(run(module), expected, rtol=1e-4, atol=1e-5)
    assert removed.layers.keys() == {
        f"layers.{index}.{layer}" for index in (0, 1) for layer in ("self_attn", "linear1")
    }
    assert len(attentions(smaller)) == 2
