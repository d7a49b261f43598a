"""Models with an explicit state are judged on states that occur, and on calls in a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from converters.models.facts import study
from runtimes.artifact.gates import Gates
from runtimes.errors import UsageError
from runtimes.spec import Arrays, TensorSpec
from runtimes.validator.judge import Answers, judge
from runtimes.validator.probes import synthetic_probes
from runtimes.validator.reference import Reference
from tests.runtimes.validator.gates.manifests import manifest_of

INPUTS = {"x": TensorSpec(shape=(1, 4)), "past": TensorSpec(shape=(1, 3))}
OUTPUTS = {"y": TensorSpec(shape=(1, 3)), "now": TensorSpec(shape=(1, 3))}


class Stream(nn.Module):
    """A recurrent cell."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.GRUCell(4, 3)

    def forward(self, x: torch.Tensor, past: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        now = self.cell(x, past)
        return 2 * now, now


def reference(feedback: dict[str, str] | None = None) -> Reference:
    state = {"past": "now"} if feedback is None else feedback
    probes = synthetic_probes(INPUTS, {})
    return study(Stream(), INPUTS, {}, probes, ["y", "now"], None, state)[1]


def test_each_step_has_the_state_that_the_step_before_answered() -> None:
    judged = reference()
    assert len(judged.steps) == 8
    assert not judged.probes[judged.steps[0]].inputs["past"].any()
    for before, after in zip(judged.steps, judged.steps[1:], strict=False):
        np.testing.assert_array_equal(
            judged.probes[after].inputs["past"], judged.eager[before]["now"]
        )


def test_a_name_that_the_model_lacks_is_an_error() -> None:
    with pytest.raises(UsageError, match="state: the model has no output 'then'"):
        reference({"past": "then"})
    with pytest.raises(UsageError, match="no input 'pas'; did you mean 'past'"):
        reference({"pas": "now"})


def failures(sequence: list[Arrays], precision: str = "fp32") -> list[str]:
    judged = reference()
    manifest = manifest_of(INPUTS, OUTPUTS, precision=precision)
    answers = Answers(judged.eager, sequence=sequence)
    return [r.detail for r in judge(manifest, Gates(), judged, answers)[1] if r.ok is False]


def test_a_sequence_on_its_own_state_stays_near_eagers() -> None:
    judged = reference()
    right = [judged.eager[index] for index in judged.steps]
    assert failures(right) == []
    drifted = [{name: values * np.float32(1.01) for name, values in step.items()} for step in right]
    [detail] = failures(drifted)
    assert detail.startswith("SQNR in dB of now after 8 calls on its own state is 40")
    assert failures(drifted, "int8") == []


def test_each_step_counts_and_not_only_the_last() -> None:
    judged = reference()
    answers = [judged.eager[index] for index in judged.steps]
    answers[2] = {name: values * np.float32(1.5) for name, values in answers[2].items()}
    [detail] = failures(answers)
    assert detail.startswith("SQNR in dB of now after 3 calls on its own state is 6.0")


def test_a_reference_keeps_its_sequence(tmp_path: Path) -> None:
    judged = reference()
    judged.save(tmp_path / "reference.safetensors")
    loaded = Reference.load(tmp_path / "reference.safetensors")
    assert (loaded.feedback, loaded.steps) == ({"past": "now"}, judged.steps)
