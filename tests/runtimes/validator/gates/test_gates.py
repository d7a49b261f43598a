"""Each gate alone: what it lets pass, what it stops, in which words and order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.artifact.artifact import Artifact, FileEntry, Manifest
from runtimes.artifact.gates import Gates
from runtimes.results import GateResult
from runtimes.spec import Arrays, TensorSpec
from runtimes.validator.defaults import NOISE_FP32, SQNR_DB
from runtimes.validator.evidence import Evidence, Repeat
from runtimes.validator.gates import gates
from runtimes.validator.gates.finite import finite, not_comparable
from runtimes.validator.parity import summarize
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference
from tests.runtimes.validator.gates.manifests import manifest_of

ORDER = ["shapes", "finite", "precision", "reference", "parity", "batch", "deterministic"]


def judged_manifest(precision: str = "fp32", **build: object) -> Manifest:
    spec = {"logits": TensorSpec(shape=(2, 10))}
    return manifest_of(spec, spec, precision=precision, build=build)


def reference() -> Reference:
    """Three probes; eager is the truth rounded to float32."""
    truth = [{"logits": np.random.default_rng(i).standard_normal((2, 10))} for i in range(3)]
    eager = [{"logits": outputs["logits"].astype(np.float32)} for outputs in truth]
    return Reference([Probe(f"probe {i}", {}) for i in range(3)], eager, truth)


def evidence(
    first: list[Arrays] | None = None,
    second: list[Arrays] | None = None,
    truth: Reference | None = None,
    manifest: Manifest | None = None,
    limits: Gates | None = None,
) -> Evidence:
    """What a session answered; by default exactly what eager does, twice."""
    truth = truth or reference()
    first = truth.eager if first is None else first
    parity = summarize(first, truth, classification=True)
    return Evidence(
        manifest or judged_manifest(),
        truth,
        first,
        repeats(second or first),
        parity,
        limits or Gates(),
    )


def repeats(answers: list[Arrays]) -> list[Repeat]:
    """Further runs of the first probes."""
    return [Repeat(index, outputs) for index, outputs in enumerate(answers)]


def changed(value: float, index: tuple[int, int] = (0, 0), probe: int = 1) -> list[Arrays]:
    """Eager's answers with one value of one probe replaced."""
    outputs = [{"logits": outputs["logits"].copy()} for outputs in reference().eager]
    outputs[probe]["logits"][index] = value
    return outputs


def scaled(factor: float) -> list[Arrays]:
    return [{"logits": outputs["logits"] * np.float32(factor)} for outputs in reference().eager]


def failed(results: list[GateResult]) -> GateResult:
    """Return the only failed result; after it, only determinism was still checked."""
    [(index, result)] = [
        (index, result) for index, result in enumerate(results) if result.ok is False
    ]
    assert [later.gate for later in results[index + 1 :]] in ([], ["deterministic"])
    return result


def holds(results: list[GateResult]) -> bool:
    """Whether all gates were asked and none failed."""
    return list(dict.fromkeys(result.gate for result in results)) == ORDER and all(
        result.ok is not False for result in results
    )


def test_eagers_own_answers_pass_every_gate_in_the_designs_order() -> None:
    results = gates.judge(evidence())
    assert list(dict.fromkeys(result.gate for result in results)) == ORDER
    holds = {result.gate: result.ok for result in results}
    assert list(holds.values()) == [True, True, None, True, True, None, True]
    assert sum(result.gate == "parity" for result in results) == 2, "the whole, and the parts"


def test_another_name_fails_shapes() -> None:
    plain = evidence()
    renamed = replace(
        plain, first=[{"probabilities": outputs["logits"]} for outputs in plain.first]
    )
    assert failed(gates.judge(renamed)) == GateResult(
        gate="shapes", ok=False, detail="outputs are ['probabilities'], eager's are ['logits']"
    )


def test_another_shape_fails_shapes() -> None:
    plain = evidence()
    cut = replace(plain, first=[{"logits": outputs["logits"][:1]} for outputs in plain.first])
    assert (
        failed(gates.judge(cut)).detail
        == "logits at probe 0 is float32[1, 10], eager's is float32[2, 10]"
    )


def test_another_dtype_fails_shapes() -> None:
    plain = evidence()
    halved = replace(
        plain, first=[{"logits": outputs["logits"].astype(np.float16)} for outputs in plain.first]
    )
    assert (
        failed(gates.judge(halved)).detail
        == "logits at probe 0 is float16[2, 10], eager's is float32[2, 10]"
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_fails_finite(bad: float) -> None:
    result = failed(gates.judge(evidence(changed(bad))))
    assert (result.gate, result.detail) == (
        "finite",
        "1 of 20 values of logits at probe 1 are NaN or Inf",
    )


def test_nan_where_eager_has_one_is_not_the_artifacts_fault() -> None:
    truth = reference()
    truth.eager[0]["logits"][0, 0] = np.nan
    assert finite(evidence(truth=truth)).ok


def masked(value: float) -> Reference:
    """A reference whose model answers with an infinite value, in float64 too."""
    truth = reference()
    for outputs in (truth.eager[0], truth.truth[0]):
        outputs["logits"][0, 0] = value
    return truth


@pytest.mark.parametrize("wrong", [1000.0, np.nan, np.inf])
def test_a_masked_logit_that_is_not_masked_fails(wrong: float) -> None:
    truth = masked(-np.inf)
    first = [{"logits": outputs["logits"].copy()} for outputs in truth.eager]
    assert finite(evidence(first, truth=truth)).ok
    first[0]["logits"][0, 0] = wrong
    result = finite(evidence(first, truth=truth))
    assert result.ok is False
    assert "1 of 20 values of logits at probe 0 are not eager's NaN or Inf" in result.detail


def test_masked_logits_are_comparable() -> None:
    assert not_comparable(masked(-np.inf)) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_overflow_of_eager_alone_fails_the_reference(value: float) -> None:
    truth = reference()
    truth.eager[0]["logits"][0, 0] = value
    result = failed(gates.judge(evidence(truth=truth)))
    assert result.gate == "reference"
    assert "1 of 20 values of eager's logits at probe 0 overflow in float32" in result.detail


def test_nan_of_the_model_itself_fails_the_reference() -> None:
    result = failed(gates.judge(evidence(truth=masked(np.nan))))
    assert result.gate == "reference"
    assert "are NaN, with which nothing can be compared" in result.detail


@pytest.mark.parametrize(
    ("layers", "ok"),
    [
        ({"fp16": 10}, True),
        ({"fp16": 9, "fp32": 1}, True),
        ({"fp16": 8, "fp32": 2}, False),
        ({"fp32": 10}, False),
    ],
)
def test_precision_is_a_share_of_the_computing_layers(layers: dict[str, int], ok: bool) -> None:
    result = gates.precision(evidence(manifest=judged_manifest("fp16", compute_layers=layers)))
    assert result.ok is ok
    assert result.detail.endswith("required fp16")


def test_what_the_engine_executes_counts_more_than_what_the_exporter_counted() -> None:
    plain = evidence(manifest=judged_manifest("bf16", compute_layers={"bf16": 3}))
    assert gates.precision(plain).ok is True
    result = gates.precision(replace(plain, layers={"fp32": 3}))
    assert (result.ok, result.detail) == (False, "computing layers: 3 fp32; required bf16")
    assert (
        gates.precision(replace(plain, manifest=judged_manifest("bf16"), layers={"bf16": 3})).ok
        is True
    )


@pytest.mark.parametrize("build", [{}, {"compute_layers": {}}])
def test_precision_is_not_judged_where_it_is_not_known(build: dict[str, object]) -> None:
    assert gates.precision(evidence(manifest=judged_manifest("fp16", **build))).ok is None


def test_a_constant_reference_proves_nothing() -> None:
    outputs = [{"logits": np.zeros((2, 10), np.float32)} for _ in range(3)]
    constant = replace(reference(), eager=outputs, truth=outputs)
    result = failed(gates.judge(evidence(truth=constant)))
    assert result.gate == "reference"
    assert (
        "logits is the same for every probe, so agreement with it proves nothing" in result.detail
    )


def test_one_percent_fails_parity_with_both_numbers() -> None:
    result = failed(gates.judge(evidence(scaled(1.01))))
    assert result.gate == "parity"
    assert result.detail.startswith("noise (logits at probe")
    assert result.detail.endswith(f"at most {NOISE_FP32:g}")


@pytest.mark.parametrize(
    ("precision", "fails", "passes"), [("fp16", 1.02, 1.001), ("bf16", 1.1, 1.01)]
)
def test_lossy_artifacts_are_judged_by_sqnr(precision: str, fails: float, passes: float) -> None:
    manifest = judged_manifest(precision)
    result = failed(gates.judge(evidence(scaled(fails), manifest=manifest)))
    assert result.detail.startswith("SQNR in dB is ")
    assert result.detail.endswith(f"at least {SQNR_DB[precision]:g}")
    assert holds(gates.judge(evidence(scaled(passes), manifest=manifest)))


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (Gates(noise=1e-9), "noise (logits at "),
        (Gates(sqnr_db=399), "SQNR in dB is "),
        (Gates(max_abs=1e-12), "largest absolute error is "),
    ],
)
def test_what_the_recipe_asks_is_required(limits: Gates, what: str) -> None:
    result = failed(gates.judge(evidence(limits=limits)))
    assert result.gate == "parity"
    assert result.detail.startswith(what)


def test_a_looser_gate_of_the_recipe_replaces_the_default() -> None:
    assert holds(gates.judge(evidence(scaled(1.01), limits=Gates(noise=1e9))))


def test_one_swapped_class_fails_the_agreement_that_was_asked_for() -> None:
    result = failed(
        gates.judge(evidence(changed(50.0), limits=Gates(top1_agreement=1.0, noise=1e12)))
    )
    assert (
        result.detail
        == "top-1 agreement over 6 samples is 83.3% (95 %: 43.6% to 97.0%), at least 100%"
    )


def test_agreement_that_could_not_be_measured_fails() -> None:
    plain = replace(evidence(), gates=Gates(top1_agreement=0.5))
    plain = replace(plain, parity=plain.parity.model_copy(update={"top1_agreement": None}))
    assert failed(gates.judge(plain)).detail.endswith("is none, at least 50%")


@pytest.mark.parametrize("value", [1e-3, np.nan])
def test_two_runs_that_differ_fail_deterministic(value: float) -> None:
    first = reference().eager
    second = changed(first[1]["logits"][0, 0] + value)
    result = failed(gates.judge(evidence(first, second)))
    assert result.gate == "deterministic"
    assert result.detail.startswith("logits at probe 1 differs by ")


def test_two_runs_of_differing_shape_fail_deterministic() -> None:
    first = reference().eager
    second = [
        {"logits": np.concatenate([outputs["logits"], outputs["logits"]])} for outputs in first
    ]
    result = failed(gates.judge(evidence(first, second)))
    assert (result.gate, result.detail) == (
        "deterministic",
        "logits at probe 0 is [2, 10], then [4, 10] after other calls",
    )


def test_answers_that_do_not_repeat_are_told_beside_the_parity_that_they_spoil() -> None:
    results = gates.judge(evidence(scaled(1.01), reference().eager))
    assert [result.gate for result in results if result.ok is False] == ["parity", "deterministic"]


def test_an_answer_that_was_overwritten_is_told_beside_the_nan_that_it_became() -> None:
    overwritten = replace(
        evidence(changed(np.nan)), problems=["the next call overwrites its answer"]
    )
    results = gates.judge(overwritten)
    assert [result.gate for result in results if result.ok is False] == ["finite", "deterministic"]


def test_only_the_probes_that_were_run_twice_are_compared() -> None:
    first = reference().eager
    assert gates.deterministic(evidence(first, changed(50.0)[:1])).ok
    assert gates.deterministic(evidence(first, changed(50.0)[:2])).ok is False


def test_a_mask_of_minus_infinity_repeats_itself() -> None:
    truth = reference()
    for outputs in (*truth.eager, *truth.truth):
        outputs["logits"][:, 3] = -np.inf
    assert holds(gates.judge(evidence(truth=truth)))
    spoilt = [{"logits": outputs["logits"] + np.float32(1e-3)} for outputs in truth.eager]
    assert gates.deterministic(evidence(truth.eager, spoilt, truth)).ok is False


def test_two_runs_may_differ_by_eagers_own_rounding() -> None:
    first = reference().eager
    second = changed(np.nextafter(first[1]["logits"][0, 0], np.float32(np.inf)))
    assert gates.deterministic(evidence(first, second)).ok


def test_what_eager_cannot_repeat_is_not_asked_of_an_artifact() -> None:
    first = reference().eager
    second = changed(first[1]["logits"][0, 0] + 1e-3)
    loose = replace(reference(), repeat_error=1e-2)
    assert gates.deterministic(evidence(first, second, truth=loose)).ok


@given(st.floats(1.0001, 100.0) | st.floats(0.01, 0.9999))
def test_no_scaled_answer_passes(factor: float) -> None:
    assert failed(gates.judge(evidence(scaled(factor)))).gate == "parity"


def pruned(
    options: dict[str, object], after: int = 700, size: int = 700, limits: Gates | None = None
) -> Artifact:
    """An artifact of `size` bytes of a model whose weights went from 1000 bytes to `after`."""
    report = {"options": options, "before": {"bytes": 1000}, "after": {"bytes": after}}
    manifest = judged_manifest(passes=[{"prune": report}, {"recover": {}}])
    files = {"e": FileEntry(sha256="0" * 64, size=size)}
    return Artifact(
        Path("a"), manifest.model_copy(update={"files": files, "gates": limits or Gates()})
    )


def whole(size: int) -> Artifact:
    """The same format without passes."""
    files = {"e": FileEntry(sha256="0" * 64, size=size)}
    return Artifact(Path("b"), judged_manifest().model_copy(update={"name": "b", "files": files}))


@pytest.mark.parametrize(("size", "ok"), [(700, True), (999, True), (1000, False), (1200, False)])
def test_what_lost_channels_must_be_smaller_on_disk_than_without_its_passes(
    size: int, ok: bool
) -> None:
    result = gates.size(pruned({"structured": 0.3}, size=size), whole(1000))
    assert result is not None
    assert (result.gate, result.ok) == ("size", ok)
    assert (
        result.detail
        == f"{size / 1000:.1%} of b's on disk ({size:,} of 1,000 bytes), required less than 100%"
    )


@pytest.mark.parametrize(("after", "ok"), [(700, True), (1000, False)])
def test_without_a_parent_the_weights_before_and_after_decide(after: int, ok: bool) -> None:
    result = gates.size(pruned({"structured": 0.3}, after, size=2000), None)
    assert result is not None
    assert result.ok is ok
    words = f"of the weights before ({after:,} of 1,000 bytes), required less than 100%"
    assert result.detail == f"{after / 1000:.1%} {words}"


def test_pruning_in_steps_counts_from_the_first_to_the_last() -> None:
    first, second = (
        pruned({"structured": 0.2}, after).manifest.build["passes"][0] for after in (800, 640)
    )
    artifact = Artifact(Path("a"), judged_manifest(passes=[first, {"recover": {}}, second]))
    result = gates.size(artifact, None)
    assert result is not None
    assert result.detail.startswith("64.0% of the weights before")


def test_the_size_is_asked_only_of_what_lost_channels_and_only_where_it_counts() -> None:
    assert gates.size(whole(1), None) is None
    assert gates.size(pruned({"unstructured": 0.8}, after=1000), None) is None
    assert gates.size(pruned({"pattern": "2:4"}, after=1000), None) is None
    assert (
        gates.size(pruned({"structured": 0.3}, after=1000, limits=Gates(parent_size=None)), None)
        is None
    )
    stricter = gates.size(
        pruned({"structured": 0.3}, size=700, limits=Gates(parent_size=0.5)), whole(1000)
    )
    assert stricter is not None
    assert stricter.ok is False
