"""The gate of the honest error, on a real int8 artifact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtimes.artifact.artifact import Artifact, Manifest
from runtimes.errors import ArtifactError
from runtimes.files.layout import REFERENCE_FILE
from runtimes.results import GateResult, Parity
from runtimes.session import load
from runtimes.spec import Arrays
from runtimes.validator.defaults import HALF_SAMPLES
from runtimes.validator.evidence import Evidence
from runtimes.validator.gates.honest import EXPECTED, honest
from runtimes.validator.outputs.honest import honest_samples, measure_errors
from runtimes.validator.reference import Reference


def judged(manifest: Manifest, reference: Reference, answers: list[Arrays]) -> list[GateResult]:
    """The gate's results."""
    evidence = Evidence(manifest, reference, answers, [], Parity(), manifest.gates)
    return list(honest(evidence))


@pytest.fixture(scope="module")
def reference(quantized_build: Path) -> Reference:
    return Reference.load(quantized_build / REFERENCE_FILE)


@pytest.fixture(scope="module")
def answers(quantized_build: Path, reference: Reference) -> list[Arrays]:
    with load(quantized_build / "onnx-int8") as session:
        return [session.run(probe.inputs) for probe in reference.probes]


@pytest.fixture(scope="module")
def manifest(quantized_build: Path) -> Manifest:
    return Artifact.open(quantized_build / "onnx-int8").manifest


def test_an_int8_artifact_errs_as_its_quantized_graph_does_on_any_cpu(
    manifest: Manifest, reference: Reference, answers: list[Arrays]
) -> None:
    whole, part = judged(manifest, reference, answers)
    assert whole.ok, whole.detail
    assert part.ok, part.detail


def test_a_defect_that_the_absolute_limits_let_through_fails(
    manifest: Manifest, reference: Reference, answers: list[Arrays]
) -> None:
    spread = float(np.std([outputs["logits"] for outputs in answers[:16]]))
    wrong = [{"logits": outputs["logits"] + np.float32(0.3 * spread)} for outputs in answers]
    assert any(result.ok is False for result in judged(manifest, reference, wrong))


def test_a_dead_class_fails_and_is_named(
    manifest: Manifest, reference: Reference, answers: list[Arrays]
) -> None:
    wrong = []
    for outputs in answers:
        logits = outputs["logits"].copy()
        logits[:, 4] = 0
        wrong.append({"logits": logits})
    failed = [result for result in judged(manifest, reference, wrong) if result.ok is False]
    assert "logits[:, 4]" in failed[-1].detail


def test_nothing_is_asked_without_a_measurement(
    manifest: Manifest, reference: Reference, answers: list[Arrays]
) -> None:
    silent = manifest.model_copy(update={"build": {}})
    assert judged(silent, reference, answers) == []


def test_a_damaged_measurement_is_an_error(
    manifest: Manifest, reference: Reference, answers: list[Arrays]
) -> None:
    build = {"passes": [{"quantize": {EXPECTED: {"logits": "small"}}}]}
    with pytest.raises(ArtifactError, match=EXPECTED):
        judged(manifest.model_copy(update={"build": build}), reference, answers)


def rounded_to_half(reference: Reference, factor: float = 1.0) -> list[Arrays]:
    """The truth in float16, times a factor."""
    scaled = [np.float16(truth["logits"]) * np.float32(factor) for truth in reference.truth]
    return [{"logits": logits} for logits in scaled]


def measured_in_half(reference: Reference, answers: list[Arrays]) -> Reference:
    """The reference as if rounding to float16 gave these answers."""
    indices = honest_samples(reference.probes, HALF_SAMPLES)
    errors = measure_errors({index: answers[index] for index in indices}, reference)
    return replace(reference, rounding={"fp16": errors})


def test_a_reference_without_a_measurement_holds_float16_to_an_estimate(
    manifest: Manifest, reference: Reference
) -> None:
    half = manifest.model_copy(update={"precision": "fp16"})
    old = replace(reference, rounding={})
    results = judged(half, old, rounded_to_half(old))
    assert results
    assert all(result.ok and "by eager's own rounding" in result.detail for result in results)
    wrong = judged(half, old, rounded_to_half(old, 1.02))
    assert any(result.ok is False for result in wrong)


def test_float16_is_held_to_what_the_model_has_in_float16(
    manifest: Manifest, reference: Reference
) -> None:
    half = manifest.model_copy(update={"precision": "fp16"})
    right = rounded_to_half(reference)
    measured = measured_in_half(reference, right)
    assert all(result.ok for result in judged(half, measured, right))
    slightly_wrong = rounded_to_half(reference, 1.001)
    assert all(
        result.ok for result in judged(half, replace(reference, rounding={}), slightly_wrong)
    )
    failed = [result for result in judged(half, measured, slightly_wrong) if result.ok is False]
    assert "the model has in fp16" in failed[0].detail


def test_engines_that_add_up_in_half_are_held_to_neither(
    manifest: Manifest, reference: Reference
) -> None:
    engine = manifest.model_copy(update={"precision": "fp16", "runtime": "tensorrt"})
    assert judged(engine, reference, rounded_to_half(reference, 2.0)) == []


def test_a_build_measures_both_half_precisions(reference: Reference) -> None:
    fp16, bf16 = (reference.rounding[precision]["logits"] for precision in ("fp16", "bf16"))
    assert 4 < (bf16.whole / fp16.whole) ** 0.5 < 16, "the unit is eight times as large"
    assert len(fp16.axes[0]) == len(bf16.axes[0]) == 10
