"""Models stored in half precision compute in float32, with the same weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from converters.models.call import call, call_noting_casts
from converters.models.calls.half import stored_in_half, widen


class Casting(nn.Module):
    """Names half precision in each of the ways that code has."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.head.to(dtype)
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = self.head(x.to(self.dtype)) + torch.ones(3, dtype=self.dtype)
        return half.type(self.dtype) + half.half() + half.bfloat16()


HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


@HALF
def test_the_weights_stay_what_they_are(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).to(dtype).eval()
    before = copy.deepcopy(model.state_dict())
    wide = widen(model)
    assert stored_in_half(wide)
    for name, tensor in wide.state_dict().items():
        if before[name].is_floating_point():
            assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name].to(tensor.dtype))


def test_other_models_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3).double())
    assert widen(model) is model
    assert not stored_in_half(model)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32, torch.float64}


@HALF
def test_casts_to_half_go_to_the_precision_of_the_weights(dtype: torch.dtype) -> None:
    model, x = widen(Casting(dtype).eval()), torch.randn(2, 4)
    result, casts = call_noting_casts(model, {"x": x})
    expected = 3 * (model.head(x) + 1)
    assert casts
    assert result.dtype == torch.float32
    assert torch.allclose(result, expected)
    double = copy.deepcopy(model).double()
    exact = call(double, {"x": x.double()})
    assert exact.dtype == torch.float64
    assert torch.allclose(exact, expected.double(), atol=1e-5)


def test_a_model_without_casts_of_its_own_is_noted_as_such() -> None:
    model = widen(nn.Linear(4, 3).bfloat16().eval())
    result, casts = call_noting_casts(model, {"x": torch.randn(2, 4)})
    assert (result.dtype, casts) == (torch.float32, False)


def test_inputs_in_half_precision_get_the_precision_of_the_weights() -> None:
    model = widen(nn.Linear(4, 3).half().eval())
    assert call(model, {"x": torch.randn(2, 4).half()}).dtype == torch.float32


def test_a_model_in_float32_keeps_its_casts() -> None:
    class Rounds(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return x.half().float()

    x = torch.tensor([[1.0001]])
    assert torch.equal(call(Rounds(), {"x": x}), x.half().float())
