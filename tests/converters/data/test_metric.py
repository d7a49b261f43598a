"""A metric of the user's own rates eager and the artifact, in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.data.metric import opened
from converters.recipe.schema import Recipe
from runtimes.artifact.gates import Gates
from runtimes.errors import BurnishError
from runtimes.results import GateResult, Outcome
from runtimes.spec import Arrays, TensorSpec
from runtimes.validator.judge import Answers, judge
from runtimes.validator.outputs.metric import UserMetric
from runtimes.validator.probes import Probe, ProbeKind
from runtimes.validator.reference import Reference
from tests.runtimes.validator.gates.manifests import manifest_of

CODE = """
import numpy as np
def error(outputs, inputs, labels): return np.abs(outputs["y"] - inputs["x"]).mean()
def right(outputs, inputs, labels): return (outputs["y"].argmax(-1) == labels).mean()
def text(outputs, inputs, labels): return "good"
def nothing(outputs, inputs, labels): return float("nan")
"""
SPEC = TensorSpec(shape=(1, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("metric")
    (path / "my_metrics_of_tests.py").write_text(CODE, encoding="utf-8")
    return path


def recipe(metric: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "model": "python:m:f",
            "inputs": {"x": {"shape": (1, 3)}},
            "metric": metric,
            "artifacts": {"onnx": {}},
        }
    )


def test_a_recipe_without_a_metric_starts_no_process(folder: Path) -> None:
    with opened(recipe(None), folder) as metric:
        assert metric is None


@pytest.mark.parametrize(("name", "words"), [("text", "ValueError"), ("nothing", "no number")])
def test_a_function_that_returns_no_number_is_named(folder: Path, name: str, words: str) -> None:
    ones = {"y": np.ones((1, 3))}
    with (
        opened(recipe(f"python:my_metrics_of_tests:{name}"), folder) as metric,
        pytest.raises(BurnishError, match=words),
    ):
        assert metric is not None
        metric.measure(ones, {"x": np.ones((1, 3))}, None)


def test_a_function_that_is_not_there_is_named(folder: Path) -> None:
    with (
        pytest.raises(BurnishError, match="has no 'erro'; did you mean 'error'"),
        opened(recipe("python:my_metrics_of_tests:erro"), folder) as metric,
    ):
        assert metric is not None
        metric.measure({"y": np.ones((1, 3))}, {"x": np.ones((1, 3))}, None)


def results(
    metric: UserMetric | None,
    moved: float,
    limit: float | None,
    kind: ProbeKind = "data",
    precision: str = "fp32",
) -> list[GateResult]:
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((1, 3)).astype(np.float32) for _ in range(8)]
    probes = [
        Probe(f"s {n}", {"x": x}, kind, labels=(int(x.argmax()),)) for n, x in enumerate(inputs)
    ]
    eager: list[Arrays] = [{"y": x} for x in inputs]
    reference = Reference(probes, eager, [{"y": x.astype(np.float64)} for x in inputs])
    answers = Answers([{"y": x + np.float32(moved)} for x in inputs])
    gates = Gates(metric_drop=limit, noise=1e9, sqnr_db=-50)
    manifest = manifest_of({"x": SPEC}, {"y": SPEC}, precision=precision)
    _, results = judge(manifest, gates, reference, answers, metric)
    return [
        result for result in results if "worse by" in result.detail or "metric" in result.detail
    ]


@pytest.mark.parametrize(("limit", "holds"), [(0.2, True), (0.05, False)])
def test_lower_may_be_better(folder: Path, limit: float, holds: bool) -> None:
    spec = {"function": "python:my_metrics_of_tests:error", "better": "lower"}
    with opened(recipe(spec), folder) as metric:
        [result] = results(metric, 0.1, limit)
    assert result.ok is holds
    assert result.detail.startswith("error is 0.1, eager's 0: worse by 0.1, at most")


def test_labels_are_handed_on(folder: Path) -> None:
    with opened(recipe("python:my_metrics_of_tests:right"), folder) as metric:
        [result] = results(metric, 0.1, 0.0)
    assert (result.ok, result.detail) == (True, "right is 1, eager's 1: worse by 0, at most 0")


def test_a_limit_without_the_metric_fails_and_says_what_to_do() -> None:
    [result] = results(None, 0.0, 0.1)
    assert result.ok is False
    assert "name the recipe (--recipe)" in result.detail


def test_on_noise_a_metric_of_a_lossy_artifact_proves_nothing(folder: Path) -> None:
    spec = {"function": "python:my_metrics_of_tests:error", "better": "lower"}
    with opened(recipe(spec), folder) as metric:
        [result] = results(metric, 0.1, 0.2, kind="noise", precision="int8")
        [lossless] = results(metric, 0.1, 0.2, kind="noise")
    assert result.outcome is Outcome.UNDECIDED
    assert result.remedy is not None
    assert "data.evaluation" in result.remedy
    assert lossless.ok is True, "parity proves the numbers"
