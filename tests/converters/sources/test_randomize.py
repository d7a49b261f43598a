"""Random weights that prove something: reproducible, and no output that ignores the input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from converters.sources.load import Source, load_model
from converters.sources.randomize import randomize
from runtimes.spec import DimRange, TensorSpec


def source(model: str, seed: int = 0, size: int = 64, batch: int = 4) -> Source:
    inputs = {"image": TensorSpec(shape=("batch", 3, size, size))}
    dims = {"batch": DimRange(min=1, max=batch)}
    return Source(model, {}, (f"random:{seed}",), Path(), "recipe.yaml:1", inputs, dims)


def outputs(module: nn.Module, size: int = 64) -> torch.Tensor:
    with torch.inference_mode():
        return module(torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1)))


class ZeroHead(nn.Module):
    """As torchvision's ViTs are made: a head of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.body(x)))


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second = (
        load_model(source("torchvision:squeezenet1_1", 5)).module.state_dict() for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_gives_other_weights() -> None:
    first, second = (
        load_model(source("torchvision:squeezenet1_1", seed)).module for seed in (1, 2)
    )
    assert not torch.equal(outputs(first), outputs(second))


def test_random_weights_are_recorded_as_such() -> None:
    record = load_model(source("torchvision:squeezenet1_1", 7)).weights
    assert (record.source, record.random, record.sha256) == ("random:7", True, None)


def test_a_head_of_zeros_is_drawn_anew_and_the_rest_stays() -> None:
    module = ZeroHead()
    body = module.body.weight.detach().clone()
    randomize(module, 0, lambda: None)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert module(x).std(dim=0).min() > 0.01
    assert torch.equal(module.body.weight, body)
    assert torch.equal(module.norm.weight, torch.ones(8))


def test_a_vision_transformer_of_torchvision_answers_to_its_input() -> None:
    module = load_model(source("torchvision:vit_b_32", size=224)).module
    assert outputs(module, 224).std(dim=0).mean() > 0.01


def test_activations_do_not_vanish_in_a_network_of_batch_norms() -> None:
    module = load_model(source("torchvision:resnet18")).module
    spread = outputs(module).std(dim=0).mean()
    assert 1e-3 < spread < 1e3
    variances = [part.running_var for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    assert not any(torch.equal(variance, torch.ones_like(variance)) for variance in variances)


def test_the_module_is_left_in_eval_mode_with_its_own_momentum() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.25), nn.Dropout())
    randomize(module.train(), 0, lambda: module(torch.randn(4, 3, 5, 5)))
    assert not any(part.training for part in module.modules())
    assert module[1].momentum == 0.25


def test_one_sample_of_one_position_has_no_variance_to_learn() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    randomize(module, 0, lambda: module(torch.randn(1, 3)))
    assert np.isfinite(module(torch.randn(1, 3)).detach().numpy()).all()
    assert torch.equal(module[1].running_var, torch.ones(4))


def test_an_error_of_the_model_itself_is_not_swallowed() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        randomize(module, 0, lambda: module(torch.randn(4, 7)))
