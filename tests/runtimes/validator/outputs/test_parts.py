"""A part of an output that is wrong is seen beside larger ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.spec import Arrays
from runtimes.validator.defaults import PART_SAMPLES
from runtimes.validator.outputs.parts import Part, Values, judge_parts, measure_parts
from runtimes.validator.probes import Probe, ProbeKind
from runtimes.validator.reference import Reference

SAMPLES = 64


def detections(samples: int = SAMPLES) -> Values:
    """Boxes of up to 640 pixels beside two scores of up to 1, at five places: float64[n, 6, 5]."""
    rng = np.random.default_rng(0)
    boxes, scores = rng.uniform(0, 640, (samples, 4, 5)), rng.uniform(0, 1, (samples, 2, 5))
    return np.concatenate([boxes, scores], 1)


def measured(truth: Values, actual: Values, kind: ProbeKind = "data") -> list[Part]:
    outputs: list[Arrays] = [{"boxes": row[None]} for row in truth]
    answers: list[Arrays] = [{"boxes": row[None].astype(np.float32)} for row in actual]
    probes = [Probe(f"sample {index}", {}, kind) for index in range(len(truth))]
    return measure_parts(answers, Reference(probes, outputs, outputs))


def failed(parts: list[Part], precision: str = "int8") -> list[str]:
    return [result.detail for result in judge_parts(parts, precision) if result.ok is False]


def test_the_artifact_itself_passes() -> None:
    assert failed(measured(detections(), detections())) == []


def test_scores_of_zero_beside_boxes_fail_and_are_named() -> None:
    wrong = detections()
    wrong[:, 4] = 0
    detail, *_ = failed(measured(detections(), wrong))
    assert "what varies in boxes[:, 4, :] over 64 samples" in detail


@given(st.floats(-1e3, 1e3))
def test_whatever_constant_a_part_becomes_it_fails(constant: float) -> None:
    wrong = detections()
    wrong[:, 5] = constant
    assert failed(measured(detections(), wrong))


def test_three_answers_of_a_regression_with_an_offset_fail() -> None:
    truth = 294 + np.random.default_rng(0).normal(0, 0.45, (SAMPLES, 1))
    assert failed(measured(truth, np.round(truth)))
    assert failed(measured(truth, truth + 0.01)) == []


@pytest.mark.parametrize(("precision", "loss"), [("fp16", 1e-3), ("bf16", 1e-2), ("int8", 0.05)])
def test_an_honest_loss_passes(precision: str, loss: float) -> None:
    truth = np.random.default_rng(1).normal(0, 1, (SAMPLES, 1000))
    actual = truth + np.random.default_rng(2).normal(0, loss, truth.shape)
    assert failed(measured(truth, actual), precision) == []


def test_nan_fails() -> None:
    wrong = detections()
    wrong[3, 2, 1] = np.nan
    assert failed(measured(detections(), wrong))


def test_masked_logits_are_judged_where_they_are_finite() -> None:
    truth = detections()
    masked = np.random.default_rng(1).random(truth.shape) < 0.3
    truth[masked] = -np.inf
    assert failed(measured(truth, truth)) == []
    wrong = truth.copy()
    wrong[:, 4][~masked[:, 4]] = 0.5
    assert "boxes[:, 4, :]" in failed(measured(truth, wrong))[0]
    truth[:] = -np.inf
    assert measured(truth, truth) == []


def test_noise_and_few_samples_are_not_judged_by_parts() -> None:
    truth = detections()
    assert measured(truth, 0 * truth, kind="noise") == []
    few = truth[: PART_SAMPLES - 1]
    assert measured(few, 0 * few) == []


def test_a_part_that_never_varies_is_not_judged() -> None:
    truth = detections()
    truth[:, 0] = 17.0
    wrong = truth.copy()
    wrong[:, 0] = 17.5
    assert failed(measured(truth, wrong)) == []


@pytest.mark.parametrize("fault", ["noise", "offset"])
def test_one_of_ten_logits_that_is_off_by_a_third_of_the_magnitude_fails(fault: str) -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((200, 10))
    honest = truth + 0.06 * rng.standard_normal(truth.shape)
    assert failed(measured(truth, honest)) == []
    wrong = honest.copy()
    wrong[:, 3] += 0.3 * (rng.standard_normal(200) if fault == "noise" else 1)
    assert any(
        "logits[:, 3]".replace("logits", "boxes") in d for d in failed(measured(truth, wrong))
    )


def test_parts_of_other_magnitudes_are_no_outliers() -> None:
    rng = np.random.default_rng(0)
    scale = np.array([1, 1, 1, 1, 100, 0.01])
    truth = scale * rng.standard_normal((200, 6))
    assert failed(measured(truth, truth + 0.1 * scale * rng.standard_normal(truth.shape))) == []


def test_a_part_that_hardly_varies_is_no_outlier() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([1, 1, 1, 1, 1, 0.2]) * rng.standard_normal((200, 6))
    assert failed(measured(truth, truth + 0.06 * rng.standard_normal(truth.shape))) == []


def test_the_last_of_a_ranking_may_be_another_one_now_and_then() -> None:
    rng = np.random.default_rng(0)
    scores = -np.sort(-rng.uniform(0, 1, (SAMPLES, 8)))
    boxes = rng.uniform(0, 640, (SAMPLES, 8, 4))
    chosen = boxes + rng.normal(0, 4, boxes.shape)
    chosen[:3, 7] = 640 - chosen[:3, 7]  # rounding chose another cell
    outputs: list[Arrays] = [
        {"boxes": box[None], "scores": score[None]}
        for box, score in zip(boxes, scores, strict=True)
    ]
    answers: list[Arrays] = [
        {**output, "boxes": box[None]} for output, box in zip(outputs, chosen, strict=True)
    ]
    probes = [Probe(f"sample {index}", {}, "data") for index in range(SAMPLES)]
    ranked, plain = Reference(probes, outputs, outputs), without_scores(outputs)
    assert failed(measure_parts(answers, ranked)) == []
    assert "outlier" in failed(measure_parts(answers, Reference(probes, plain, plain)))[0]


def without_scores(outputs: list[Arrays]) -> list[Arrays]:
    return [{"boxes": output["boxes"]} for output in outputs]
