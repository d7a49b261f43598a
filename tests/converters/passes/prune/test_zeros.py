"""Zeros: the pattern 2:4 and the smallest of all weights, and whether a graph still has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning", reason="the passes share its module types")

from torch import nn  # noqa: E402

from converters.errors import ExportError  # noqa: E402
from converters.graph.sparsity import follows, sparse_layers  # noqa: E402
from converters.models.figures import figures  # noqa: E402
from converters.passes.prune.zeros import prune_zeros  # noqa: E402
from converters.recipe.prune import PruneOptions  # noqa: E402
from runtimes.errors import UsageError  # noqa: E402


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.ReLU(),
        nn.Conv2d(16, 8, 3),
        nn.Flatten(),
        nn.Linear(8 * 16, 12),
        nn.Linear(12, 5),
    ).eval()


@settings(max_examples=50, deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.just(8), st.integers(1, 3)),
        elements=st.floats(-1, 1, width=32),
    )
)
def test_of_four_neighbours_the_two_largest_stay(weight: np.ndarray) -> None:
    layer = nn.Conv1d(8, weight.shape[0], weight.shape[2])
    layer.weight = nn.Parameter(torch.from_numpy(weight.copy()))
    prune_zeros(nn.Sequential(layer), PruneOptions(pattern="2:4"))
    pruned = layer.weight.detach().numpy()
    assert follows(pruned, 1)
    kept = pruned != 0
    assert np.array_equal(pruned[kept], weight[kept]), "what stays is what it was"
    fours, before = (
        np.moveaxis(values, 1, -1).reshape(-1, 4) for values in (np.abs(pruned), np.abs(weight))
    )
    assert np.allclose(np.sort(before)[:, 2:].sum(1), fours.sum(1))


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 0.99))
def test_the_smallest_of_all_weights_become_zero(share: float) -> None:
    module = net()
    before = torch.cat(
        [layer.weight.detach().flatten().abs() for layer in module if hasattr(layer, "weight")]
    )
    prune_zeros(module, PruneOptions(unstructured=share))
    after = torch.cat(
        [layer.weight.detach().flatten().abs() for layer in module if hasattr(layer, "weight")]
    )
    assert int((after == 0).sum()) == pytest.approx(share * len(before), abs=1)
    assert float(before[after == 0].max()) <= float(after[after != 0].min())


def test_excluded_layers_and_layers_that_cannot_take_the_pattern_stay() -> None:
    shares = prune_zeros(net(), PruneOptions(pattern="2:4", exclude=("5",)))
    assert shares.keys() == {"2", "4"}, "the first has three inputs, the last is excluded"
    assert all(share == 0.5 for share in shares.values())
    with pytest.raises(UsageError, match="no layer's inputs are a multiple of four"):
        prune_zeros(nn.Sequential(nn.Linear(3, 4)), PruneOptions(pattern="2:4"))
    with pytest.raises(UsageError, match="no layer is named 'nine'"):
        prune_zeros(net(), PruneOptions(pattern="2:4", exclude=("nine",)))


def test_exactly_so_many_become_zero_where_many_weights_are_equal() -> None:
    module = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    with torch.no_grad():
        for layer in module:
            layer.weight.fill_(0.5)
    prune_zeros(module, PruneOptions(unstructured=0.3))
    assert sum(int((layer.weight == 0).sum()) for layer in module) == 60


class Several(nn.Module):
    """Weights of other kinds than convolutions and linear layers, and one that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(50, 16), nn.Linear(16, 50, bias=False)
        self.head.weight = self.words.weight
        self.memory, self.attention = nn.LSTM(16, 16), nn.MultiheadAttention(16, 2)
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        self.second.weight = self.first.weight


def test_a_layer_that_shares_its_weight_with_an_excluded_one_stays() -> None:
    for name in ("first", "second"):
        shares = prune_zeros(Several(), PruneOptions(unstructured=0.5, exclude=(name,)))
        assert not {"first", "second"} & shares.keys()


def test_weights_that_are_computed_cannot_become_zero() -> None:
    module = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), nn.Linear(8, 8))
    with pytest.raises(UsageError, match="0 computes its weight from other parameters"):
        prune_zeros(module, PruneOptions(unstructured=0.5))
    assert prune_zeros(module, PruneOptions(unstructured=0.5, exclude=("0",))).keys() == {"1"}


def test_attention_and_recurrent_layers_have_weights_too() -> None:
    layers = {
        "head",
        "memory.weight_ih_l0",
        "memory.weight_hh_l0",
        "attention.in_proj_weight",
        "attention.out_proj",
    }
    module = Several()
    shares = prune_zeros(module, PruneOptions(unstructured=0.5))
    assert shares.keys() == {*layers, "first"}, "what two layers share is counted once"
    weights = [weight for weight in module.parameters() if weight.dim() > 1]
    assert sum(int((weight == 0).sum()) for weight in weights) == round(
        0.5 * sum(weight.numel() for weight in weights)
    )
    patterned = prune_zeros(
        Several(), PruneOptions(pattern="2:4", exclude=("first", "second", "head"))
    )
    assert patterned == {"attention.in_proj_weight": 0.5, "attention.out_proj": 0.5}


@pytest.mark.parametrize("options", [{"unstructured": 0.5}, {"pattern": "2:4"}])
def test_where_no_layer_is_left_it_is_said(options: dict[str, Any]) -> None:
    with pytest.raises(
        UsageError, match="no layer is left whose weights can become zero: exclude less"
    ):
        prune_zeros(net(), PruneOptions(**options, exclude=("*",)))


def test_zeros_parameters_operations_and_bytes_are_told_apart() -> None:
    module, x = net(), torch.randn(1, 3, 8, 8)
    before = figures(module, lambda model: model(x))
    prune_zeros(module, PruneOptions(unstructured=0.8))
    after = figures(module, lambda model: model(x))
    assert (after.parameters, after.macs, after.bytes) == (
        before.parameters,
        before.macs,
        before.bytes,
    )
    assert before.zeros < 0.01 < 0.7 < after.zeros
    assert after.compressed_bytes < 0.5 * before.compressed_bytes


def test_a_graph_tells_whether_it_still_has_the_pattern(tmp_path: Path) -> None:
    onnx_ir = pytest.importorskip("onnx_ir")
    module, x = net(), torch.randn(2, 3, 8, 8)

    def layers() -> dict[str, int]:
        torch.onnx.export(module, (x,), str(tmp_path / "net.onnx"), dynamo=True, verbose=False)
        return sparse_layers(onnx_ir.load(str(tmp_path / "net.onnx")))

    with pytest.raises(ExportError, match="no layer of the exported graph follows the pattern 2:4"):
        layers()
    prune_zeros(module, PruneOptions(pattern="2:4"))
    assert layers() == {"follow": 3, "of": 4}
