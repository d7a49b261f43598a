"""A classifier's decisions are gated by default, as far as the samples prove something."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.artifact.gates import Gates
from runtimes.results import GateResult, Outcome
from runtimes.spec import Arrays, TensorSpec
from runtimes.validator.accuracy import wilson
from runtimes.validator.evidence import Evidence
from runtimes.validator.gates.decisions import decide_loss, decisions
from runtimes.validator.parity import summarize
from runtimes.validator.probes import Probe, ProbeKind
from runtimes.validator.reference import Reference
from tests.runtimes.validator.gates.manifests import manifest_of

SPEC = {"logits": TensorSpec(shape=(1, 4))}


def results(
    samples: int,
    wrong: int,
    *,
    precision: str = "int8",
    labelled: bool = False,
    kind: ProbeKind = "data",
    limits: Gates | None = None,
    pruned: bool = False,
    shift: int = 0,
) -> list[GateResult]:
    """Judge an artifact that takes another class than eager on `wrong` of the samples.

    `shift`: of the labels, that are another model's then.
    """
    rng = np.random.default_rng(0)
    eager: list[Arrays] = [{"logits": rng.normal(0, 1, (1, 4))} for _ in range(samples)]
    answers = [{"logits": outputs["logits"].copy()} for outputs in eager]
    for outputs in answers[:wrong]:
        outputs["logits"][0] = np.roll(outputs["logits"][0], 1)
    probes = []
    for index, outputs in enumerate(eager):
        labels = (int(outputs["logits"].argmax() + shift) % 4,) * labelled
        probes.append(Probe(f"sample {index}", {}, kind, labels=labels))
    reference = Reference(probes, eager, eager, original=eager if pruned else None)
    manifest = manifest_of(SPEC, SPEC, precision=precision)
    parity = summarize(answers, reference, classification=True, lossless=precision == "fp32")
    evidence = Evidence(manifest, reference, answers, [], parity, limits or Gates())
    return list(decisions(evidence))


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "int4"])
@pytest.mark.parametrize("labelled", [False, True])
def test_a_lossy_classifier_that_decides_otherwise_fails_by_default(
    precision: str, labelled: bool
) -> None:
    [result] = results(200, 180, precision=precision, labelled=labelled)
    assert result.ok is False
    assert ("accuracy" if labelled else "agreement") in result.detail
    assert "200 samples" in result.detail


@pytest.mark.parametrize("labelled", [False, True])
def test_a_few_other_decisions_pass(labelled: bool) -> None:
    [result] = results(200, 6, labelled=labelled)
    assert result.ok


@pytest.mark.parametrize("labelled", [False, True])
def test_few_samples_fail_nothing_by_chance(labelled: bool) -> None:
    [result] = results(8, 2, labelled=labelled)
    assert result.ok


def test_noise_has_no_classes_to_lose() -> None:
    assert results(200, 180, kind="noise") == []


def test_float32_is_judged_by_parity() -> None:
    assert results(200, 180, precision="fp32") == []


def test_a_pruned_classifier_is_asked_in_float32_too() -> None:
    [result] = results(200, 40, precision="fp32", pruned=True)
    assert result.ok is False


WRITTEN = {"top1_agreement": Gates(top1_agreement=0.98), "accuracy_drop": Gates(accuracy_drop=0.02)}


@pytest.mark.parametrize("key", WRITTEN)
@pytest.mark.parametrize(
    ("samples", "wrong", "outcome"),
    [
        (16, 0, Outcome.UNDECIDED),
        (2000, 10, Outcome.HOLDS),
        (200, 4, Outcome.UNDECIDED),
        (200, 40, Outcome.FAILS),
    ],
)
def test_a_limit_of_the_recipe_holds_if_the_samples_prove_it(
    key: str, samples: int, wrong: int, outcome: Outcome
) -> None:
    [result] = results(samples, wrong, limits=WRITTEN[key], labelled=key == "accuracy_drop")
    assert result.outcome is outcome
    assert (result.remedy is not None) is (outcome is Outcome.UNDECIDED)


@pytest.mark.parametrize("key", WRITTEN)
def test_the_samples_that_would_decide_it_do(key: str) -> None:
    labelled = key == "accuracy_drop"
    [result] = results(16, 0, limits=WRITTEN[key], labelled=labelled)
    count = re.match(r"about ([\d,]+) samples may decide it", result.remedy or "")
    assert count is not None
    needed = int(count[1].replace(",", ""))
    [decided] = results(needed, 0, limits=WRITTEN[key], labelled=labelled)
    assert decided.outcome is Outcome.HOLDS
    assert needed < 400


def test_no_number_of_samples_decides_what_lies_on_the_limit() -> None:
    [result] = results(50, 1, limits=WRITTEN["top1_agreement"])
    assert result.remedy == "it is too near to the limit for any number of samples"


def test_full_agreement_is_asked_of_the_samples_themselves() -> None:
    """No number of samples proves that no other one would be decided otherwise."""
    for wrong, ok in ((0, True), (1, False)):
        [result] = results(8, wrong, limits=Gates(top1_agreement=1.0))
        assert result.ok is ok


@pytest.mark.parametrize("key", WRITTEN)
def test_float32_has_parity_for_a_proof(key: str) -> None:
    labelled = key == "accuracy_drop"
    for pruned, outcome in ((False, Outcome.HOLDS), (True, Outcome.UNDECIDED)):
        [result] = results(
            16, 0, precision="fp32", limits=WRITTEN[key], labelled=labelled, pruned=pruned
        )
        assert result.outcome is outcome


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_written_limit_is_at_least_as_strict_as_a_default(a: float, b: float, c: float) -> None:
    low, value, high = sorted((a, b, c))
    for limit in (0.0, 0.01, 0.5):
        written = decide_loss(value, (low, high), limit, "written")
        assert written is not True or decide_loss(value, (low, high), limit, "proven worse")
        assert written is not True or decide_loss(value, (low, high), limit, "measured")


@pytest.mark.parametrize("key", ["top1_agreement", "accuracy_drop"])
def test_a_recipe_can_ask_for_nothing(key: str) -> None:
    assert results(200, 180, limits=Gates.model_validate({key: None})) == []


@given(st.integers(1, 1000), st.data())
def test_wilsons_interval_holds_the_share_and_narrows(samples: int, data: st.DataObject) -> None:
    share = data.draw(st.integers(0, samples)) / samples
    low, high = wilson(share, samples)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    wide = wilson(share, samples)
    narrow = wilson(share, 100 * samples)
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


def test_wilsons_interval_as_published() -> None:
    """81 of 263 in Newcombe, Statistics in Medicine 1998: 0.2553 to 0.3662."""
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_a_limit_on_labels_of_another_model_is_unproven() -> None:
    limits = Gates(accuracy_drop=0.02)
    [result] = results(400, 0, labelled=True, shift=1, limits=limits)
    assert result.outcome is Outcome.UNDECIDED
    assert "eager's is no more than chance" in result.detail
    assert result.remedy is not None
    assert result.remedy.startswith("labels of this model's classes")


def test_by_default_such_labels_leave_the_judgement_to_the_agreement() -> None:
    [result] = results(400, 390, labelled=True, shift=1)
    assert result.ok is False
    assert "top-1 agreement" in result.detail
