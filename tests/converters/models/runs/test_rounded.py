"""Answers of a model whose numbers are rounded to half precision."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from converters.models.facts import study
from converters.models.runs.rounded import rounded_answers
from runtimes.spec import DimRange, TensorSpec
from runtimes.validator.defaults import HALF_SAMPLES
from runtimes.validator.outputs.honest import excess, honest_samples, measure_errors
from runtimes.validator.probes import Probe, synthetic_samples, with_limits
from runtimes.validator.reference import Reference

INPUTS = {"x": TensorSpec(shape=("batch", 6, 16))}
DIMS = {"batch": DimRange(max=4)}
SAMPLES = synthetic_samples(INPUTS, DIMS)


class Encoder(nn.Module):
    """Attention, normalization, in-place operations, a branch, a table of floats."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(16, 5)
        self.register_buffer("places", torch.linspace(-1, 1, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.attention(x + self.places))
        if y.shape[0] > 0:
            y[:, ::2].mul_(0.7)
        return self.head(y.relu_().mean(1) / (y.var() + 1e-12).sqrt())


class Fragile(nn.Module):
    """Runs on the exact input only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.flatten()[0] == 1.0:
            raise ValueError("divides by zero")
        return x / (x - 1.0)


def model(kind: type[nn.Module] = Encoder) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind().eval()


@pytest.fixture(scope="module")
def reference() -> Reference:
    return study(model(), INPUTS, DIMS, with_limits(SAMPLES, INPUTS, DIMS), ["y"], None)[1]


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_it_is_the_error_of_pytorchs_own_half_precision(
    reference: Reference, precision: str, dtype: torch.dtype
) -> None:
    half, answers = model().to(dtype), {}
    for index in honest_samples(reference.probes, HALF_SAMPLES):
        x = torch.from_numpy(reference.probes[index].inputs["x"].copy())
        with torch.inference_mode():
            answers[index] = {"y": half(x.to(dtype)).float().numpy()}
    (whole, name), _ = excess(measure_errors(answers, reference), reference.rounding[precision])
    assert name == "y"
    assert -2 < whole < 2


def test_the_model_stays_as_it_is() -> None:
    module = model()
    before = copy.deepcopy(module.state_dict())
    rounded_answers(module, SAMPLES, ["y"])
    for name, values in module.state_dict().items():
        assert torch.equal(values, before[name]), name


def test_the_same_model_has_the_same_errors(reference: Reference) -> None:
    again = study(model(), INPUTS, DIMS, with_limits(SAMPLES, INPUTS, DIMS), ["y"], None)[1]
    assert again.rounding == reference.rounding


def test_a_precision_in_which_it_does_not_run_is_left_out() -> None:
    probe = Probe("noise 0", {"x": np.full((1, 6, 16), 1.0001, np.float32)})
    assert rounded_answers(model(Fragile), [probe], ["y"]) == {}


def test_answers_that_rounding_makes_infinite_are_no_measure() -> None:
    class Cancelling(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1 / (x - 1.0)

    inputs = {"x": TensorSpec(shape=(2, 3))}
    probes = [
        replace(probe, inputs={"x": np.full((2, 3), 1.0001, np.float32) + probe.inputs["x"] * 1e-6})
        for probe in synthetic_samples(inputs, {})
    ]
    assert study(Cancelling(), inputs, {}, probes, ["y"], None)[1].rounding["fp16"] == {}
