"""Indices and classes that rounding decides are known, all others count."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from converters.models.facts import study
from runtimes.spec import Arrays, TensorSpec
from runtimes.validator.outputs.order import reconcile
from runtimes.validator.probes import synthetic_probes
from runtimes.validator.reference import Reference


class Best(nn.Module):
    """The indices of the three largest of ten, without their scores; and what is above zero."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 10, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.layer(x)
        return scores.topk(3).indices, scores > 0


def reference() -> Reference:
    inputs = {"x": TensorSpec(shape=(1, 4))}
    return study(Best(), inputs, {}, synthetic_probes(inputs, {}), ["best", "positive"], None)[1]


def masks(judged: Reference) -> dict[str, Arrays]:
    return {probe.name: mask for probe, mask in zip(judged.probes, judged.loose, strict=True)}


def test_on_zeros_rounding_decides_and_on_noise_it_does_not() -> None:
    by_probe = masks(reference())
    assert by_probe["edge zeros"]["best"].any()
    assert by_probe["edge zeros"]["positive"].any()
    assert not any(by_probe[f"noise {number}"]["best"].any() for number in range(4))


def test_only_what_rounding_decides_is_accepted() -> None:
    judged = reference()
    wrong = [{**outputs, "best": outputs["best"] + 1} for outputs in judged.eager]
    results = reconcile(wrong, judged, lossless=True)
    for result, eager, loose in zip(results, judged.eager, judged.loose, strict=True):
        np.testing.assert_array_equal(result["best"] == eager["best"], loose["best"])


def test_a_model_of_floats_needs_none() -> None:
    inputs = {"x": TensorSpec(shape=(1, 4))}
    judged = study(nn.Linear(4, 2), inputs, {}, synthetic_probes(inputs, {}), None, None)[1]
    assert not any(judged.loose)


class Mask(Best):
    """What is above zero, as floats."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return (self.layer(x) > 0).float()


def test_a_mask_of_floats_is_decided_by_rounding_too() -> None:
    inputs = {"x": TensorSpec(shape=(1, 4))}
    judged = study(Mask(), inputs, {}, synthetic_probes(inputs, {}), ["mask"], None)[1]
    by_probe = masks(judged)
    assert by_probe["edge zeros"]["mask"].any()
    assert not by_probe["noise 0"]["mask"].any()
