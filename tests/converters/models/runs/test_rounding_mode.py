"""The mode in which operations return numbers that half precision holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from converters.models.runs.rounding_mode import RoundedResults, rounded

HALVES = (torch.float16, torch.bfloat16)
ordinary = hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(-1e4, 1e4, width=32))


@pytest.mark.parametrize("dtype", HALVES)
@given(ordinary)
def test_rounded_numbers_are_held_by_half_precision(dtype: torch.dtype, values: np.ndarray) -> None:
    once = rounded(torch.from_numpy(values), dtype)
    torch.testing.assert_close(rounded(once, dtype), once, rtol=0, atol=0)
    if once.any():
        expected = torch.from_numpy(values).to(dtype).float()
        assert torch.equal(once, expected) or not expected.any()


def test_what_overflows_stays_and_so_does_an_epsilon() -> None:
    large = torch.tensor([1e6, 0.1, -torch.inf])
    assert rounded(large, torch.float16).tolist() == [1e6, float(np.float16(0.1)), -np.inf]
    epsilon = torch.tensor([1e-12])
    assert torch.equal(rounded(epsilon, torch.float16), epsilon)


def test_integers_float64_and_no_numbers_at_all_stay() -> None:
    for tensor in (torch.arange(5000), torch.tensor([0.1], dtype=torch.float64), torch.zeros(0)):
        assert rounded(tensor, torch.float16) is tensor


@pytest.mark.parametrize("dtype", HALVES)
def test_each_result_is_rounded_also_in_place_and_of_parts(dtype: torch.dtype) -> None:
    x, weight, bias = (torch.randn(shape) for shape in ((4, 8), (8, 8), (8,)))
    x, weight, bias = (rounded(tensor, dtype) for tensor in (x, weight, bias))
    with torch.inference_mode(), RoundedResults(dtype):
        product = torch.nn.functional.linear(x, weight, bias)
        written = x.clone()
        written[:, 2:4].mul_(0.3)
        written.add_(product)
    for result in (product, written):
        assert torch.equal(result, result.to(dtype).float())
    exact = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
    assert not torch.equal(product.double(), exact)
    expected = x.clone()
    expected[:, 2:4] = (x[:, 2:4] * 0.3).to(dtype).float()
    assert torch.equal(written, (expected + product).to(dtype).float())
