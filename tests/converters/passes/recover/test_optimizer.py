import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")
from torch import nn

from converters.passes.recover.optimizer import make_optimizer, share_of_rate


def test_only_matrices_and_kernels_decay() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    decaying, others = make_optimizer(module, 0.5).param_groups
    assert [parameter.dim() for parameter in decaying["params"]] == [4, 2]
    assert {parameter.dim() for parameter in others["params"]} == {1}
    assert decaying["weight_decay"] > others["weight_decay"] == 0
    assert decaying["lr"] == others["lr"] == 0.5


@given(st.floats(0, 1))
def test_the_learning_rate_is_never_above_its_highest_nor_negative(done: float) -> None:
    assert 0 <= share_of_rate(done) <= 1


def test_the_learning_rate_rises_and_then_falls_to_zero() -> None:
    assert share_of_rate(0) < share_of_rate(0.03) < share_of_rate(0.05) == 1
    assert share_of_rate(0.05) > share_of_rate(0.5) > share_of_rate(1) == 0
