"""Gates of single outputs, and whole numbers of lossy artifacts."""

from __future__ import annotations

import numpy as np
import pytest

from runtimes.artifact.gates import Gates
from runtimes.results import GateResult
from runtimes.spec import Arrays, TensorSpec
from runtimes.validator.judge import Answers, judge
from runtimes.validator.probes import Probe, ProbeKind
from runtimes.validator.reference import Reference
from tests.runtimes.validator.gates.manifests import manifest_of

X = TensorSpec(shape=(4,))


def reference(kind: ProbeKind = "data", count: int = 30) -> Reference:
    """Scores, and which of them is the largest."""
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(4).astype(np.float32) for _ in range(count)]
    probes = [Probe(f"sample {index}", {"x": x}, kind) for index, x in enumerate(inputs)]
    eager: list[Arrays] = [{"scores": x, "best": np.array([x.argmax()])} for x in inputs]
    truth = [{"scores": o["scores"].astype(np.float64), "best": o["best"]} for o in eager]
    return Reference(probes, eager, truth)


def failures(answers: list[Arrays], limits: dict[str, object], precision: str) -> list[str]:
    manifest = manifest_of(
        {"x": X},
        {"scores": X, "best": TensorSpec(shape=(1,), dtype="int64")},
        precision=precision,
    )
    gates = Gates.model_validate(limits)
    results: list[GateResult] = judge(manifest, gates, reference(), Answers(answers))[1]
    return [result.detail for result in results if result.ok is False]


def changed(**outputs: object) -> list[Arrays]:
    """Eager's answers with some outputs replaced by what a function makes of them."""
    answers = []
    for eager in reference().eager:
        answer = dict(eager)
        for name, function in outputs.items():
            answer[name] = function(eager[name])  # type: ignore[operator]
        answers.append(answer)
    return answers


def test_the_artifact_itself_passes() -> None:
    for precision in ("fp32", "int8"):
        assert failures(changed(), {}, precision) == []


def test_an_ignored_output_may_be_anything() -> None:
    wrong = changed(best=lambda best: best + 1)
    assert failures(wrong, {}, "fp32")
    assert failures(wrong, {"outputs": {"best": {"ignore": True}}}, "fp32") == []


def test_an_output_is_judged_by_its_own_limit() -> None:
    rough = changed(scores=lambda scores: scores * np.float32(1.001))
    assert failures(rough, {}, "fp32")
    assert failures(rough, {"outputs": {"scores": {"sqnr_db": 50}}}, "fp32") == []
    [detail] = failures(rough, {"outputs": {"scores": {"sqnr_db": 70}}}, "fp32")
    assert detail.startswith("sqnr_db of scores is 60")


@pytest.mark.parametrize(("wrong", "holds"), [(0, True), (4, True), (6, False), (30, False)])
def test_whole_numbers_of_a_lossy_artifact_are_counted(wrong: int, holds: bool) -> None:
    answers = changed()
    for index in range(wrong):
        answers[index] = {**answers[index], "best": answers[index]["best"] + 1}
    details = failures(answers, {}, "int8")
    assert (details == []) is holds
    if not holds:
        assert details[0].endswith(" of best equals eager's, at least 85%")
