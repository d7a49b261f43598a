"""Facts from running a model: its outputs, their dynamic dimensions, and the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from converters.models.calls.half import widen
from converters.models.facts import ModelFacts, count_classes, estimate_work, study
from runtimes.errors import UsageError
from runtimes.spec import DimRange, TensorSpec
from runtimes.validator.defaults import REPEATED_PROBES
from runtimes.validator.probes import synthetic_probes
from runtimes.validator.reference import Reference

BATCH = {"batch": DimRange(min=1, max=8)}


class Call(nn.Module):
    """A module around a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def facts_of(
    module: nn.Module,
    names: Sequence[str] | None = None,
    task: str | None = None,
    shape: Any = ("batch", 4),
) -> tuple[ModelFacts, Reference]:
    inputs = {"x": TensorSpec(shape=shape)}
    dims = BATCH if "batch" in shape else {}
    return study(module.eval(), inputs, dims, synthetic_probes(inputs, dims), names, task)


def test_outputs_follow_the_dynamic_dimension_of_the_input() -> None:
    facts, _ = facts_of(nn.Linear(4, 3))
    assert facts.outputs == {"output": TensorSpec(shape=("batch", 3))}
    assert facts.parameters == 15


def test_a_size_that_follows_no_input_gets_a_name_of_its_own() -> None:
    facts, _ = facts_of(Call(lambda x: torch.cat([x, x])))
    assert facts.outputs["output"].shape == ("output_0", 4)


@pytest.mark.parametrize("best", [1, 2])
def test_an_output_with_fewer_axes_at_some_sizes_is_noted(best: int) -> None:
    module = nn.Sequential(nn.Linear(4, 1), Call(lambda x: x.squeeze()))
    inputs, dims = {"x": TensorSpec(shape=("batch", 4))}, {"batch": DimRange(opt=best, max=4)}
    probes = synthetic_probes(inputs, dims)
    facts, reference = study(module, inputs, dims, probes, None, None)
    assert facts.outputs["output"].shape == (() if best == 1 else ("batch",))
    assert any("squeeze() without a dimension?" in note for note in reference.notes)


def test_the_output_of_a_classifier_is_called_logits() -> None:
    assert list(facts_of(nn.Linear(4, 3), task="classification")[0].outputs) == ["logits"]


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: {"scores": x, "boxes": 2 * x}, ["scores", "boxes"]),
        (lambda x: (x, 2 * x), ["output_0", "output_1"]),
        (lambda x: [x, (x, x)], ["output_0", "output_1", "output_2"]),
        (lambda x: {"a": x, "b": (x, x)}, ["a", "b.0", "b.1"]),
        (lambda x: {"a": x, "b": None}, ["a"]),
        (lambda x: [x], ["output"]),
    ],
)
def test_outputs_are_named_by_their_place(function: Any, names: list[str]) -> None:
    assert list(facts_of(Call(function))[0].outputs) == names


def test_two_outputs_of_one_name_need_names_from_the_recipe() -> None:
    twice = Call(lambda x: {"a": [x], "a.0": 2 * x})
    with pytest.raises(UsageError, match=r"two outputs are named 'a\.0': name all 2 by `outputs:`"):
        facts_of(twice)
    assert list(facts_of(twice, ["one", "other"])[0].outputs) == ["one", "other"]


def test_other_outputs_on_other_probes() -> None:
    with pytest.raises(UsageError, match=r"returns a on the probe 'size batch=3', but a, b on"):
        facts_of(Call(lambda x: {"a": x, "b": x if len(x) == 1 else None}))


@pytest.mark.parametrize(
    ("function", "is_flat"),
    [
        (lambda x: {"a": x, "b": (x, [x])}, False),
        (lambda x: (x, None), True),
        (lambda x: x.bfloat16(), True),
    ],
)
def test_ends_that_no_exporter_takes_become_flat(function: Any, is_flat: bool) -> None:
    facts, _ = facts_of(Call(function))
    assert facts.flat is is_flat
    assert {spec.dtype for spec in facts.outputs.values()} == {"float32"}


def test_a_model_stored_in_half_precision_has_its_truth_in_float64_and_a_note() -> None:
    model = widen(nn.Linear(4, 3).bfloat16())
    facts, reference = facts_of(model)
    assert (reference.truth_dtype, facts.flat) == ("float64", False)
    assert "stored in half precision" in reference.notes[0]


def test_the_recipe_may_name_the_outputs() -> None:
    facts, reference = facts_of(Call(lambda x: {"scores": x, "boxes": 2 * x}), ["a", "b"])
    assert list(facts.outputs) == list(reference.truth[0]) == ["a", "b"]


def test_too_few_names_for_the_outputs() -> None:
    words = r"the model has 2 outputs \(output_0, output_1\), `outputs:` names 1: a"
    with pytest.raises(UsageError, match=words):
        facts_of(Call(lambda x: (x, x)), ["a"])


def test_a_mapping_may_name_some_of_the_outputs() -> None:
    model = Call(lambda x: {"scores": x, "boxes": 2 * x})
    assert list(facts_of(model, {"boxes": object()})[0].outputs) == ["scores", "boxes"]
    assert list(facts_of(model, {"a": object(), "b": object()})[0].outputs) == ["a", "b"]


@pytest.mark.parametrize(
    ("function", "words"), [(lambda x: "text", "returns a str"), (lambda x: 3, "returns a int")]
)
def test_outputs_that_are_no_tensors(function: Any, words: str) -> None:
    with pytest.raises(Exception, match=words):
        facts_of(Call(function))


def test_a_dtype_that_no_exporter_can_write() -> None:
    with pytest.raises(
        UsageError, match=r"output 'output' is complex64.*which no exporter here can write"
    ):
        facts_of(Call(lambda x: torch.fft.fft(x)))


def test_the_truth_is_the_same_model_in_float64() -> None:
    _, reference = facts_of(nn.Linear(4, 3))
    assert reference.truth_dtype == "float64"
    assert {array.dtype.name for outputs in reference.truth for array in outputs.values()} == {
        "float64"
    }
    assert {array.dtype.name for outputs in reference.eager for array in outputs.values()} == {
        "float32"
    }
    assert reference.notes == []


def test_a_model_that_cannot_run_in_float64_is_its_own_truth_and_a_note_says_so() -> None:
    _, reference = facts_of(Call(lambda x: x @ torch.ones(4, 4)))
    assert reference.truth_dtype == "float32"
    assert "does not run in float64" in reference.notes[0]
    assert np.array_equal(reference.truth[0]["output"], reference.eager[0]["output"])


def test_an_eager_model_that_does_not_repeat_itself_is_noted() -> None:
    _, reference = facts_of(Call(lambda x: x + torch.rand(1)))
    assert reference.repeat_error > 0
    assert "eager itself is not deterministic" in reference.notes[0]


def test_only_the_first_probes_are_run_twice() -> None:
    """Repeating all of them would double what a build of a large model costs."""
    runs: Counter[bytes] = Counter()

    def count(x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.float32:
            runs[x.numpy().tobytes()] += 1
        return x

    _, reference = facts_of(Call(count))
    times = [runs[probe.inputs["x"].tobytes()] for probe in reference.probes]
    assert min(times[:REPEATED_PROBES]) >= 2
    assert set(times[REPEATED_PROBES:]) == {1}


def test_all_probes_are_answered_and_kept_as_they_were() -> None:
    inputs = {"x": TensorSpec(shape=("batch", 4))}
    probes = synthetic_probes(inputs, BATCH)
    _, reference = study(nn.Linear(4, 3), inputs, BATCH, probes, None, None)
    assert all(kept is probe for kept, probe in zip(reference.probes, probes, strict=True))
    for outputs in (reference.eager, reference.truth):
        assert [len(answer["output"]) for answer in outputs] == [
            probe.sizes["batch"] for probe in probes
        ]


def test_the_probes_hold_a_batch_that_no_exporter_sees() -> None:
    _, reference = facts_of(nn.Linear(4, 3))
    assert {probe.sizes["batch"] for probe in reference.probes} >= {1, 3, 8}


def test_a_model_that_does_not_take_the_recipes_inputs() -> None:
    with pytest.raises(
        UsageError, match=r"not run on the recipe's inputs \(x: float32\[1, 5\]\).*RuntimeError"
    ):
        facts_of(nn.Linear(4, 3), shape=("batch", 5))


@pytest.mark.parametrize(
    ("function", "classes"),
    [
        (lambda x: x, 4),
        (lambda x: (x[:, :2], x), 2),
        (lambda x: {"logits": x[:, :3], "features": x}, 3),
        (lambda x: x[:, 0], 2),
        (lambda x: x[:, :1], 2),
        (lambda x: x.sum(), None),
    ],
)
def test_the_classes_are_the_last_axis_of_the_first_output(
    function: Any, classes: int | None
) -> None:
    assert (
        count_classes(Call(function).eval(), {"x": TensorSpec(shape=("batch", 4))}, BATCH)
        == classes
    )


class Two(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left - right


def test_several_inputs_go_by_name_where_forward_knows_them() -> None:
    inputs = {"right": TensorSpec(shape=(2,)), "left": TensorSpec(shape=(2,))}
    probes = synthetic_probes(inputs, {})
    facts, reference = study(Two(), inputs, {}, probes, None, None)
    assert facts.by_keyword
    expected = probes[0].inputs["left"] - probes[0].inputs["right"]
    assert np.array_equal(reference.eager[0]["output"], expected)


def test_a_misspelt_input_is_an_error_of_the_recipe() -> None:
    inputs = {"right": TensorSpec(shape=(2,)), "lefft": TensorSpec(shape=(2,))}
    with pytest.raises(UsageError, match=r"^inputs: .*none 'lefft'; did you mean 'left'"):
        study(Two(), inputs, {}, synthetic_probes(inputs, {}), None, None)


def test_several_inputs_go_in_order_where_forward_does_not_know_them() -> None:
    inputs = {"b": TensorSpec(shape=(2,)), "a": TensorSpec(shape=(2,))}
    probes = synthetic_probes(inputs, {})
    facts, reference = study(Two(), inputs, {}, probes, None, None)
    assert not facts.by_keyword
    assert np.array_equal(
        reference.eager[0]["output"], probes[0].inputs["b"] - probes[0].inputs["a"]
    )


def test_the_work_of_a_small_model_is_estimated_rather_too_high() -> None:
    work = estimate_work(nn.Linear(4, 3), {"x": TensorSpec(shape=("batch", 4))}, BATCH)
    assert work is not None
    assert 12 <= work.multiply_adds <= 100
    assert 1 <= work.operators <= 10


def test_each_step_of_a_recurrent_layer_is_work() -> None:
    lstm = nn.LSTM(4, 8, batch_first=True)
    work = estimate_work(lstm, {"x": TensorSpec(shape=(1, 50, 4))}, {})
    assert work is not None
    assert work.multiply_adds >= 50 * 4 * 8 * 12


def test_a_loop_in_python_is_many_operators() -> None:
    def loop(x: torch.Tensor) -> torch.Tensor:
        for _ in range(500):
            x = x + 1
        return x

    work = estimate_work(Call(loop), {"x": TensorSpec(shape=(1, 4))}, {})
    assert work is not None
    assert work.operators >= 500


def test_the_work_of_a_large_model_and_of_one_that_does_not_run_is_not_known() -> None:
    inputs = {"x": TensorSpec(shape=(1, 4096))}
    assert estimate_work(nn.Linear(4096, 4096, device="meta"), inputs, {}) is None
    assert estimate_work(nn.Linear(4, 3), inputs, {}) is None


def test_estimating_the_work_leaves_the_model_as_it_was() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return x + self.calls

    module = Counting()
    estimate_work(module, {"x": TensorSpec(shape=(1, 4))}, {})
    assert module.calls == 0
