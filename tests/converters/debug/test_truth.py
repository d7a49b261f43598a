"""The calls that hooks record, and the values that they copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from converters.debug.truth import Eager, output_key
from tests.converters.debug.models import net

IMAGE = {"image": np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)}


def test_calls_of_a_model() -> None:
    calls, shapes = Eager(net(), ["a", "b"], exact=True).calls(IMAGE)
    assert [call.key for call in calls] == [
        ("stem", 0),
        ("block.conv1", 0),
        ("block.bn1", 0),
        ("block.relu", 0),
        ("block.conv2", 0),
        ("block.bn2", 0),
        ("block.relu", 1),  # the block's own result is this one's: no call of its own
        ("inverted.conv.0", 0),
        ("inverted.conv.1", 0),
        ("inverted.conv.2", 0),  # so is the Sequential's
        ("inverted", 0),  # an addition made its result
        ("pool", 0),
        ("drop", 0),
        ("first", 0),
        ("second", 0),
    ]
    assert [call.key[0] for call in calls if call.passive] == [
        "drop"
    ]  # Dropout computes nothing in eval mode
    by_key = {call.key: call for call in calls}
    assert by_key["block.bn1", 0].source == ("block.conv1", 0)
    assert by_key["block.relu", 0].source == ("block.bn1", 0)
    assert not by_key["inverted", 0].leaf and by_key["stem", 0].leaf
    assert by_key["stem", 0].shape == (2, 8, 8, 8)
    assert shapes == {("output a", 0): (2, 6), ("output b", 0): (2, 6)}


def test_an_in_place_call_does_not_change_what_was_copied() -> None:
    eager = Eager(net(), ["a", "b"], exact=True)
    values = eager.values(IMAGE, [("block.bn1", 0), ("block.relu", 0)], exact=True)
    assert values["block.bn1", 0].min() < 0
    np.testing.assert_array_equal(np.maximum(values["block.bn1", 0], 0), values["block.relu", 0])


def test_both_precisions() -> None:
    model = net()
    eager = Eager(model, ["a", "b"], exact=True)
    keys = [("block.conv1", 0), output_key("a")]
    truth, single = eager.values(IMAGE, keys, exact=True), eager.values(IMAGE, keys, exact=False)
    for key in keys:
        assert truth[key].dtype == np.float64 and single[key].dtype == np.float32
        assert 0 < np.abs(truth[key] - single[key]).max() < 1e-4
    with torch.no_grad():
        np.testing.assert_array_equal(
            single[output_key("a")], model(torch.from_numpy(IMAGE["image"]))[0].numpy()
        )


def test_a_model_that_cannot_run_in_float64_is_its_own_truth() -> None:
    eager = Eager(net(), ["a", "b"], exact=False)
    assert eager.values(IMAGE, [output_key("b")], exact=True)[output_key("b")].dtype == np.float32


def test_only_requested_values_are_kept() -> None:
    eager = Eager(net(), ["a", "b"], exact=True)
    assert list(eager.values(IMAGE, [("stem", 0)], exact=False)) == [("stem", 0)]


def test_hooks_go_away() -> None:
    model = net()
    Eager(model, ["a", "b"], exact=False).calls(IMAGE)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_hooks_go_away_after_an_error() -> None:
    model = net()
    with pytest.raises(RuntimeError):
        Eager(model, ["a", "b"], exact=False).calls({"image": IMAGE["image"][:, :2]})
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


class _Odd(nn.Module):
    """Modules that return a tuple, write in place over a child's result, return no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.inner = _InPlace()
        self.size = _Size()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.attention(x, x, x, need_weights=False)
        return self.inner(y) * self.size(x)


class _InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        y += x
        return y


class _Size(nn.Module):
    def forward(self, x: torch.Tensor) -> int:
        return x.shape[-1]


def test_what_enters_a_call() -> None:
    eager = Eager(net(), ["a", "b"], exact=True)
    truth = eager.values(IMAGE, [("block.bn1", 0), ("block.conv2", 0)], exact=True)
    entered = eager.entering(IMAGE, ("block.relu", 0), exact=True)
    np.testing.assert_array_equal(
        entered, truth["block.bn1", 0]
    )  # as it was before relu wrote over it
    assert eager.entering(IMAGE, ("block.relu", 9), exact=True) is None


def test_the_expected_value_of_a_replaced_input() -> None:
    model: Any = net()
    eager = Eager(model, ["a", "b"], exact=True)
    truth = eager.values(IMAGE, [("stem", 0)], exact=True)
    zeros = np.zeros(IMAGE["image"].shape)
    values = eager.expected(IMAGE, truth, (("stem", 0), zeros))["stem", 0]
    np.testing.assert_allclose(values[0, :, 0, 0], model.stem.bias.detach().numpy(), rtol=1e-6)


def test_odd_modules() -> None:
    torch.manual_seed(0)
    inputs = {"x": np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)}
    eager = Eager(_Odd().eval(), ["y"], exact=True)
    calls: Any = eager.calls(inputs)[0]
    assert [(call.key[0], call.leaf) for call in calls] == [
        ("attention", True),
        ("inner.linear", True),
        ("inner", False),
    ]
    values = eager.values(inputs, [("attention", 0), ("inner.linear", 0), ("inner", 0)], exact=True)
    np.testing.assert_allclose(
        values["inner", 0], values["inner.linear", 0] + values["attention", 0]
    )


def test_what_is_expected_of_an_artifacts_own_values() -> None:
    """All values are off; their effects are computed, also in tuples and after in-place writes."""
    torch.manual_seed(0)
    model = _Odd().eval()
    inputs = {"x": np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)}
    eager = Eager(model, ["y"], exact=True)
    keys = [("attention", 0), ("inner.linear", 0), ("inner", 0), output_key("y")]
    truth = eager.values(inputs, keys, exact=True)
    artifact_values = {key: values + 1 for key, values in truth.items()}
    expected = eager.expected(inputs, artifact_values)
    np.testing.assert_allclose(expected["attention", 0], truth["attention", 0])
    weight = model.inner.linear.weight.detach().double().numpy()
    np.testing.assert_allclose(
        expected["inner.linear", 0], truth["inner.linear", 0] + weight.sum(1), rtol=1e-6
    )
    np.testing.assert_allclose(
        expected["inner", 0], artifact_values["inner.linear", 0] + artifact_values["attention", 0]
    )
    np.testing.assert_allclose(expected[output_key("y")], artifact_values["inner", 0] * 8)
