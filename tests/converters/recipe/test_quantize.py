"""The options of quantization, and the errors for those that cannot be combined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from converters.plan.load import load_recipe
from converters.recipe.document import RecipeError
from converters.recipe.passes import PassOptions
from converters.recipe.quantize import SHORT, QuantizeOptions


def quantize(value: Any) -> QuantizeOptions:
    options = PassOptions.model_validate({"quantize": value}).quantize
    assert options is not None
    return options


@pytest.mark.parametrize(
    ("word", "to", "mode", "quantizer"),
    [
        ("int8", "int8", "static", "nncf"),
        ("int4", "int4", "weight-only", "onnxruntime"),
        ("dynamic", "int8", "dynamic", "onnxruntime"),
        ("weight-only", "int8", "weight-only", "onnxruntime"),
        ({"calibrate": "entropy"}, "int8", "static", "onnxruntime"),
    ],
)
def test_words_stand_for_options(word: Any, to: str, mode: str, quantizer: str) -> None:
    options = quantize(word)
    assert (options.to, options.mode, options.quantizer) == (to, mode, quantizer)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("int7", "must be one of int8, int4, dynamic, weight-only"),
        ({"to": "int4"}, "int4 needs `mode: weight-only`"),
        ({"mode": "dynamic", "max_drop": 1}, "max_drop is only for `mode: static`"),
        ({"mode": "dynamic", "method": "nncf"}, "needs `method: onnxruntime`, not nncf"),
        ({"method": "nncf", "calibrate": "entropy"}, "NNCF has no entropy calibration"),
        ({"to": "int4", "mode": "weight-only", "group": 24}, "should be 16, 32, 64, 128 or 256"),
        ({"method": "onnxruntime", "calibrate": "mse"}, "ONNX Runtime has no MSE calibration"),
    ],
)
def test_impossible_options_are_refused(value: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        quantize(value)


def test_editors_know_the_words() -> None:
    words = PassOptions.model_json_schema()["properties"]["quantize"]["anyOf"]
    assert {"enum": list(SHORT), "type": "string"} in words


def test_a_pass_has_one_name() -> None:
    with pytest.raises(ValidationError, match="each pass is a mapping with one key"):
        PassOptions.model_validate({})


RECIPE = """
model: torchvision:resnet18
inputs: {{image: {{shape: [batch, 3, 32, 32]}}}}
dims: {{batch: {{max: 4}}}}
{data}
artifacts:
  {artifact}
"""
NOISE = "data: {calibration: {random: 0}}"


@pytest.mark.parametrize(
    ("data", "artifact", "message"),
    [
        (
            "",
            "onnx: {passes: [{quantize: int8}]}",
            "static quantization needs calibration data: add `data:",
        ),
        (
            NOISE,
            "torchscript: {passes: [{quantize: int8}]}",
            "torchscript has no static quantization; formats",
        ),
        (
            NOISE,
            "openvino: {passes: [{quantize: dynamic}]}",
            "openvino has no dynamic .* that have: onnx$",
        ),
        (
            NOISE,
            "onnx: {passes: [{quantise: int8}]}",
            "unknown key `quantise`; did you mean 'quantize'",
        ),
        (
            NOISE,
            "onnx: {passes: [{quantize: {too: int8}}]}",
            "unknown key `too`; did you mean 'to'",
        ),
        (
            NOISE,
            "tensorrt: {precision: fp16, passes: [{quantize: int8}]}",
            "fp16 cannot be combined with quantize",
        ),
    ],
)
def test_a_recipe_is_refused_before_any_work(
    tmp_path: Path, data: str, artifact: str, message: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(data=data, artifact=artifact), encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


BUDGET = """
model: torchvision:resnet18
inputs: {{image: {{shape: [batch, 3, 32, 32]}}}}
dims: {{batch: {{max: 4}}}}
preprocess: {{crop: 32}}
{task}
data: {{calibration: {{random: 0}}{evaluation}}}
artifacts:
  small:
    format: onnx
    passes: [{{quantize: {{to: int8, max_drop: 1{metric}}}}}]
"""
CLASSIFIER = "task: classification"
UNLABELLED = ["", ", evaluation: {images: photos}", ", evaluation: {arrays: x.npz}"]
LABELLED = [
    ", evaluation: {images: photos, labels: folder}",
    ", evaluation: {arrays: x.npz, labels: y}",
    ", evaluation: {factory: 'python:a:b'}",
]


def budget(tmp_path: Path, task: str, evaluation: str, metric: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        BUDGET.format(task=task, evaluation=evaluation, metric=metric), encoding="utf-8"
    )
    load_recipe(path)


@pytest.mark.parametrize("evaluation", UNLABELLED)
def test_accuracy_on_labels_needs_labels(tmp_path: Path, evaluation: str) -> None:
    with pytest.raises(
        RecipeError,
        match=r"(?s)recipe.yaml:\d+: artifacts.small.passes: metric: top1 is accuracy on labels, "
        "and the evaluation data has none",
    ) as caught:
        budget(tmp_path, CLASSIFIER, evaluation, ", metric: top1")
    assert len(caught.value.problems) == 1
    budget(tmp_path, CLASSIFIER, evaluation, ", metric: agreement")


@pytest.mark.parametrize("evaluation", LABELLED)
def test_accuracy_on_labels_with_labels(tmp_path: Path, evaluation: str) -> None:
    budget(tmp_path, CLASSIFIER, evaluation, ", metric: top1")


@pytest.mark.parametrize("metric", ["", ", metric: agreement", ", metric: top1"])
def test_only_a_classifier_has_a_best_class(tmp_path: Path, metric: str) -> None:
    with pytest.raises(
        RecipeError, match="needs a classifier: add `task: classification`, or use metric: sqnr"
    ):
        budget(tmp_path, "", LABELLED[0], metric)
    budget(tmp_path, "", "", ", metric: sqnr")


def test_the_users_metric_is_named_by_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"add `metric: python:module:function`"):
        budget(tmp_path, "", "", ", metric: user")
    budget(tmp_path, "metric: 'python:a:b'", "", ", metric: user")


def test_the_users_metric_has_its_own_unit() -> None:
    assert quantize({"max_drop": 0.01, "metric": "user"}).max_drop == 0.01
    assert quantize({"max_drop": 250, "metric": "user"}).max_drop == 250
    for value, words in (("1%", "in the unit of the recipe's metric"), (0, "greater than 0")):
        with pytest.raises(ValidationError, match=words):
            quantize({"max_drop": value, "metric": "user"})
    with pytest.raises(ValidationError, match="must be less than 100"):
        quantize({"max_drop": 100})


def test_a_budget_is_a_gate() -> None:
    """A budget that a search has met is still proven by a gate."""
    from converters.plan.load import _budget_gate

    assert _budget_gate(quantize({"max_drop": 2})) == {"top1_agreement": 0.98}
    assert _budget_gate(quantize({"max_drop": 2, "metric": "top1"})) == {"accuracy_drop": 0.02}
    assert _budget_gate(quantize({"max_drop": 10, "metric": "sqnr"})) == {"sqnr_db": 20.0}
    own = {"max_drop": 0.5, "metric": "user"}
    assert _budget_gate(quantize(own)) == {"metric_drop": 0.5}
    assert _budget_gate(quantize("int8")) == {}
