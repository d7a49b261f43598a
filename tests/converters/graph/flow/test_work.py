"""Multiply-adds by hand, and as torch counts them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from converters.graph.flow.shapes import load_at_sizes
from converters.graph.flow.work import GraphWork, computing_nodes


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.part = kind(8, 6, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part(x)[0]


class Attend(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.inner(x).chunk(3, -1)
        return (query @ key.transpose(-2, -1)).softmax(-1) @ value


def work_of(model: nn.Module, x: torch.Tensor, folder: Path) -> list[GraphWork]:
    """Export with a dynamic batch of 2 to 9, and count at the batch of `x`."""
    path = folder / "graph.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (x,),
            str(path),
            dynamo=True,
            verbose=False,
            opset_version=20,
            dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=9)},),
        )
    return list(computing_nodes(load_at_sizes(path, {"batch": x.shape[0]})))


CONVOLUTIONS = nn.Sequential(
    nn.Conv2d(4, 6, 3, stride=2, padding=1),
    nn.Conv2d(6, 6, 3, groups=3),
    nn.ConvTranspose2d(6, 4, 2, stride=2),
)


@pytest.mark.parametrize(
    ("model", "x", "kinds"),
    [
        (CONVOLUTIONS, torch.randn(3, 4, 10, 10), ["convolution"] * 3),
        (nn.Sequential(nn.Linear(8, 5), nn.Linear(5, 2)), torch.randn(4, 8), ["linear"] * 2),
        (Attend(), torch.randn(3, 5, 8), ["linear", "product", "product"]),
    ],
    ids=["convolutions", "linear", "attention"],
)
def test_the_multiply_adds_are_those_that_torch_counts(
    model: nn.Module, x: torch.Tensor, kinds: list[str], tmp_path: Path
) -> None:
    work = work_of(model, x, tmp_path)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    assert [layer.kind for layer in work] == kinds
    assert sum(layer.multiply_adds or 0 for layer in work) == counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("kind", "gates", "name"), [(nn.LSTM, 4, "lstm"), (nn.GRU, 3, "recurrent")]
)
def test_a_recurrent_layer_meets_both_matrices_at_each_step(
    kind: Callable[..., nn.Module], gates: int, name: str, tmp_path: Path
) -> None:
    [layer] = work_of(Recurrent(kind), torch.randn(3, 5, 8), tmp_path)
    assert (layer.kind, layer.layer) == (name, "part")
    assert layer.multiply_adds == 3 * 5 * 2 * gates * 6 * (8 + 6)
