"""`of: latency`: layers measured in real engines, interpolated times, and the selection."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning", reason="structured pruning needs it")

from torch import nn  # noqa: E402

from converters.models.attention import HeadAttention, replace_attentions  # noqa: E402
from converters.passes.prune.cost import latency as module  # noqa: E402
from converters.passes.prune.cost.cost import Costs  # noqa: E402
from converters.passes.prune.cost.latency import BLOCK, Axis, Table, latency_costs  # noqa: E402
from converters.passes.prune.cost.single import Alone, graph, narrow, some_input, widths  # noqa: E402
from converters.passes.prune.groups import Choice, Use  # noqa: E402
from converters.passes.prune.selection import select_units  # noqa: E402
from converters.passes.prune.structured import PruningInputs, prune_structured  # noqa: E402
from converters.recipe.prune import PruneOptions  # noqa: E402
from converters.steps.store import Store  # noqa: E402


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the wait for a quiet machine."""
    monkeypatch.setattr(module, "Pace", lambda: SimpleNamespace(wait=lambda seconds: (True, 0.0)))


class Several(nn.Module):
    """One of each kind of layer that is measured."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, padding=1, stride=2)
        self.depthwise = nn.Conv2d(64, 64, 3, groups=64, bias=False)
        self.grouped = nn.Conv2d(64, 32, 3, groups=4)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.depthwise(torch.relu(self.first(x))))
        x = torch.relu(self.up(torch.relu(self.grouped(x)))).flatten(2).transpose(1, 2)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Deep(nn.Module):
    """Layers of many operations, so that widths matter."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem, self.first = (
            nn.Conv2d(3, width, 3, padding=1),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.second, self.head = nn.Conv2d(width, width, 3, padding=1), nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(torch.relu(self.stem(x))))
        return self.head(torch.relu(self.second(x)).mean((2, 3)))


def build(factory: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    module = factory().eval()
    replace_attentions(module)
    return module


def on(*shape: int) -> Any:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    return lambda module: module(x)


@pytest.mark.parametrize(
    "engine", ["onnx", pytest.param("openvino", marks=pytest.mark.cpu), "torch"]
)
def test_every_kind_of_layer_is_measured_in_the_engine(engine: str, tmp_path: Path) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    whole = build(Several)
    costs = latency_costs(whole, on(1, 3, 16, 16), engine)
    assert costs.layers.keys() == {"first", "depthwise", "grouped", "up", "attention", "head"}, (
        "attention's output projection is a part of it"
    )
    assert costs.total == pytest.approx(sum(layer(1, 1) for layer in costs.layers.values()))
    assert costs.total > 0 and all(layer(1, 1) >= 0 for layer in costs.layers.values()), (
        "a small one may take no us"
    )
    shares = np.linspace(0.1, 1, 10)
    for layer in costs.layers.values():
        times = np.array([[layer(ins, outs) for outs in shares] for ins in shares])
        assert (np.diff(times, axis=0) >= -1e-9).all(), "no more inputs, no more time"
        assert (np.diff(times, axis=1) >= -1e-9).all()


def test_a_model_is_measured_once_for_all_its_prunings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, store = build(Deep), Store(tmp_path / "latency")
    first = latency_costs(whole, on(1, 3, 8, 8), "onnx", store)
    monkeypatch.setattr(module, "_measure", lambda *args: pytest.fail("measured again"))
    again = latency_costs(whole, on(1, 3, 8, 8), "onnx", store)
    pairs = [(ins / 8, outs / 8) for ins in range(1, 9) for outs in range(1, 9)]
    assert [again.layers["first"](*pair) for pair in pairs] == [
        first.layers["first"](*pair) for pair in pairs
    ]
    for change in ({"run": on(1, 3, 9, 9)}, {"engine": "torch"}):
        with pytest.raises(pytest.fail.Exception, match="measured again"):
            latency_costs(
                whole, **{"run": on(1, 3, 8, 8), "engine": "onnx", "store": store, **change}
            )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(48, 32, (3, 1), stride=2, padding=(1, 0), bias=False),
        nn.Conv1d(16, 24, 5, dilation=2),
        nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.Conv2d(16, 32, 3, groups=16),
        nn.Conv2d(32, 48, 3, groups=4),
        nn.ConvTranspose2d(32, 16, 2, stride=2),
        nn.ConvTranspose2d(32, 16, 3, stride=2, output_padding=1),
        nn.Linear(40, 24),
    ],
)
def test_a_layer_alone_is_narrower_and_else_the_same(layer: Any) -> None:
    shape = (
        (2, layer.weight.shape[1], 7)
        if isinstance(layer, nn.Linear)
        else (1, layer.in_channels, 9, 9)
    )
    shape = (1, layer.in_channels, 20) if isinstance(layer, nn.Conv1d) else shape
    shape = (2, 7, 40) if isinstance(layer, nn.Linear) else shape
    ins, outs = widths(layer)
    whole, half = narrow(layer, ins, outs), narrow(layer, max(1, ins // 2), max(1, outs // 2))
    assert str(whole) == str(layer)
    assert some_input(whole, shape).shape == shape
    before, after = whole(some_input(whole, shape)), half(some_input(half, shape))
    assert before.shape == layer(torch.zeros(shape)).shape
    axis = -1 if isinstance(layer, nn.Linear) else 1
    assert after.shape[axis] == before.shape[axis] // 2
    assert half.weight.numel() in (layer.weight.numel() // 4, layer.weight.numel() // 2)


def test_attention_alone_has_fewer_heads_of_the_same_size() -> None:
    layer = HeadAttention(nn.MultiheadAttention(24, 4, batch_first=True))
    assert widths(layer) == (1, 4)
    three: Any = narrow(layer, 1, 3)
    x = some_input(three, (2, 5, 24))
    assert three(x, x, x)[0].shape == (2, 5, 24)
    assert three.in_proj_weight.shape == (3 * 18, 24)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 8, 3, stride=2, padding=1, dilation=2),
        nn.Conv1d(4, 8, 3, bias=False),
        nn.Linear(6, 5),
        nn.Linear(6, 5, bias=False),
        nn.ConvTranspose2d(4, 3, 2),
    ],
)
def test_a_graph_of_one_layer_computes_what_the_layer_does(layer: Any) -> None:
    from converters.passes.quantize.trial import trial

    shapes = {
        nn.Linear: (2, 3, 6),
        nn.Conv1d: (1, 4, 9),
        nn.ConvTranspose2d: (1, 4, 5, 5),
        nn.Conv2d: (1, 3, 9, 9),
    }
    x = some_input(layer, shapes[type(layer)])
    [output] = trial("onnx", graph(layer, x), "fp32").run({"x": x.numpy()})
    np.testing.assert_allclose(output, Alone(layer)(x).detach().numpy(), rtol=1e-4, atol=1e-5)


@given(st.integers(1, 2000), st.sampled_from([1, 8, 16]), st.floats(0.001, 1))
def test_a_block_that_is_begun_counts_as_full(width: int, block: int, share: float) -> None:
    axis = Axis.of(width, block)
    assert axis.widths[-1] == width
    assert len(axis.widths) <= 4
    assert all(measured % block == 0 for measured in axis.widths[:-1])
    assert axis.at(share) % block == 0
    assert share * width - 1e-3 <= axis.at(share) < share * width + block
    assert axis.at(1) >= width


def test_between_the_measured_widths_time_is_interpolated() -> None:
    table = Table(Axis((16, 32), 16), Axis((16, 48), 16), np.array([[1.0, 3.0], [2.0, 6.0]]))
    assert table(1, 1) == 6
    assert table(0.5, 1) == 3
    assert table(0.5, 32 / 48) == 2
    assert table(0.5, 24 / 48) == 2, "24 channels take as long as 32"
    assert table(0.1, 0.1) == 1


@settings(max_examples=5, deadline=None)
@given(st.floats(0.3, 0.6))
def test_where_half_a_block_costs_as_much_as_a_whole_one_whole_blocks_go(share: float) -> None:
    whole, runs = build(Deep), PruningInputs(on(2, 3, 8, 8), on(1, 3, 8, 8))
    wide, axis = Axis((3,), 16), Axis((16, 32, 48, 64), 16)
    grid = np.arange(1, 5, dtype=float)
    layers = {
        "stem": Table(wide, axis, grid[None]),
        "first": Table(axis, axis, np.outer(grid, grid)),
        "second": Table(axis, axis, np.outer(grid, grid)),
        "head": Table(axis, Axis((5,), 16), grid[:, None] / 10),
    }
    costs = Costs(sum(table(1, 1) for table in layers.values()), layers, ahead=4)
    options = PruneOptions(structured=share, of="latency", round_to=8)
    _, removed = prune_structured(whole, options, runs, lambda module: costs)
    assert all(kept % BLOCK == 0 for _, kept in removed.layers.values())
    assert 1 - removed.left >= share - 0.01


def test_noise_in_a_table_hides_no_better_step() -> None:
    """Eight cheap channels save next to nothing, sixteen a quarter: looking ahead finds them."""
    blocks = np.repeat(np.arange(1, 5, dtype=float), 2) - np.tile([0.01, 0.0], 4)
    widths, single = Axis(tuple(range(8, 65, 8)), 8), Axis((1,), 1)
    layers = {
        "cheap": Table(single, widths, blocks[None]),
        "dear": Table(single, widths, np.arange(1, 9)[None] / 2),
    }

    def units(name: str, least: float) -> Choice:
        scores = np.r_[np.full(32, least), np.ones(32)]
        return Choice(name, scores, 1, 8, 0.9, (Use(name, "out", 1.0),), ())

    choices = [units("cheap", 0.1), units("dear", 0.5)]
    assert select_units(choices, Costs(8.0, layers, ahead=4), 0.25) == [32, 64]
    assert select_units(choices, Costs(8.0, layers, ahead=1), 0.25)[1] < 64


class Named(nn.Module):
    """A layer that is called by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(input=x)


def test_a_layer_that_is_called_by_keyword_is_measured() -> None:
    assert latency_costs(Named().eval(), on(2, 8), "torch").layers.keys() == {"layer"}


def test_a_model_is_pruned_by_what_was_measured() -> None:
    whole, runs = build(Deep), PruningInputs(on(2, 3, 16, 16), on(1, 3, 16, 16))
    options = PruneOptions(structured=0.4, of="latency")
    smaller, removed = prune_structured(
        whole, options, runs, lambda module: latency_costs(module, runs.best, "onnx")
    )
    assert 0.4 < removed.left < 0.7, "near the requested 0.6: widths go by whole blocks"
    assert removed.layers
    assert count_parameters(smaller) < count_parameters(whole)


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
