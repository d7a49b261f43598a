"""A small seeded sample of benchmarks/mutants.py: wrong artifacts fail, and equal ones are told from wrong ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from runtimes.session import Session

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COUNT = 40


@pytest.fixture(scope="module")
def mutation() -> Iterator[SimpleNamespace]:
    """The benchmark's modules, imported as its script does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        names = ("mutants", "oracle", "page", "subject", "trial")
        modules = {name: import_module(f"mutation.{name}") for name in names}
        yield SimpleNamespace(**modules, kinds=import_module("mutation.changes.kinds").KINDS)


@pytest.fixture(scope="module")
def trial(mutation: SimpleNamespace, small_build: Path) -> SimpleNamespace:
    """A trial of the small CNN's ONNX artifact."""
    return mutation.trial.Trial(mutation.subject.Subject("small/onnx", small_build), seed=3)


def _open(subject: SimpleNamespace) -> Session:
    """A session of the right model."""
    return subject.format.open(subject.format.content)


def _unchanged(mutation: SimpleNamespace, subject: SimpleNamespace) -> SimpleNamespace:
    return mutation.mutants.Mutant("none", 0, "", subject.format.content)


def test_every_unequal_mutant_of_a_seeded_sample_is_caught(
    mutation: SimpleNamespace, trial: SimpleNamespace
) -> None:
    mutants = trial.factory.mutants(list(mutation.kinds), COUNT)
    results = [trial.try_mutant(mutant) for mutant in mutants]
    unequal = [result for result in results if result.outcome in ("caught", "survived")]
    assert len(results) == COUNT
    assert len({result.kind for result in unequal}) >= 12
    assert len(unequal) >= 0.7 * COUNT
    assert [result for result in unequal if result.outcome == "survived"] == []


def test_every_unequal_mutant_of_a_torchscript_archive_is_caught(
    mutation: SimpleNamespace, small_build: Path
) -> None:
    trial = mutation.trial.Trial(mutation.subject.Subject("small/torchscript", small_build), seed=3)
    unchanged = trial.try_mutant(_unchanged(mutation, trial.subject))
    assert (unchanged.outcome, unchanged.gate) == ("equal", "")
    kinds = ["weight scaled", "channel swapped", "attribute moved", "operator replaced"]
    kinds += ["classes exchanged", "samples mixed", "value saturated"]
    results = [trial.try_mutant(mutant) for mutant in trial.factory.mutants(kinds, 14)]
    outcomes = [result.outcome for result in results]
    assert outcomes.count("caught") >= 7
    assert "survived" not in outcomes


def test_every_unequal_mutant_of_an_openvino_artifact_is_caught(
    mutation: SimpleNamespace, ir_build: Path
) -> None:
    trial = mutation.trial.Trial(mutation.subject.Subject("openvino/openvino", ir_build), 3)
    unchanged = trial.try_mutant(_unchanged(mutation, trial.subject))
    assert (unchanged.outcome, unchanged.gate) == ("equal", "")
    kinds = ["weight scaled", "bias dropped", "attribute moved", "operator replaced"]
    kinds += ["size conditional", "classes exchanged", "samples mixed", "value cast"]
    results = [trial.try_mutant(mutant) for mutant in trial.factory.mutants(kinds, 16)]
    outcomes = [result.outcome for result in results]
    assert outcomes.count("caught") >= 8
    assert "survived" not in outcomes


def test_the_unchanged_openvino_artifact_in_int8_is_lossy_equal_and_passes(
    mutation: SimpleNamespace, quantized_build: Path
) -> None:
    subject = mutation.subject.Subject("quantized/openvino-int8", quantized_build)
    trial = mutation.trial.Trial(subject, seed=3)
    result = trial.try_mutant(_unchanged(mutation, subject))
    assert (result.outcome, result.gate, result.lossless) == ("equal", "", False)


def test_formats_offer_only_kinds_of_the_page(
    mutation: SimpleNamespace, small_build: Path, quantized_build: Path
) -> None:
    build = {"torchscript": small_build, "onnx": small_build, "openvino-int8": quantized_build}
    for name, folder in build.items():
        subject = mutation.subject.Subject(f"small/{name}", folder)
        assert subject.format.kinds.keys() <= mutation.kinds.keys()
        again = subject.format.read().serialize()
        assert subject.format.open(again).inputs.keys() == {"image"}


def test_the_unchanged_model_is_equal_and_passes(
    mutation: SimpleNamespace, trial: SimpleNamespace
) -> None:
    result = trial.try_mutant(_unchanged(mutation, trial.subject))
    assert (result.outcome, result.gate, result.ratio, result.reason) == ("equal", "", 0.0, "")


def test_the_same_draw_makes_the_same_mutant(
    mutation: SimpleNamespace, trial: SimpleNamespace
) -> None:
    first = trial.factory.make("weight scaled", 2)
    second = mutation.mutants.Factory(trial.subject, seed=3).make("weight scaled", 2)
    another = mutation.mutants.Factory(trial.subject, seed=4).make("weight scaled", 2)
    assert first == second
    assert first.content not in (trial.subject.format.content, another.content)


def test_a_model_that_does_not_load_is_invalid(
    mutation: SimpleNamespace, trial: SimpleNamespace
) -> None:
    result = trial.try_mutant(mutation.mutants.Mutant("none", 0, "", b"no model"))
    assert result.outcome == "invalid"
    assert "cannot load" in result.reason


def test_a_difference_in_one_class_at_one_size_is_seen_by_the_oracle(
    mutation: SimpleNamespace, trial: SimpleNamespace
) -> None:
    oracle = mutation.oracle.Oracle(trial.subject, seed=0)
    session = _open(trial.subject)
    name = next(iter(session.outputs))
    run = session.run

    def run_with_fault(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = run(inputs)
        if len(outputs[name]) == 7:
            outputs[name][:, 4] *= 1.001
        return outputs

    assert oracle.compare(session).ratio == 0
    session.run = run_with_fault
    difference = oracle.compare(session)
    assert difference.ratio > mutation.oracle.BEYOND_ROUNDING
    assert "image[7, 3, 32, 32]" in difference.where


def test_a_lossy_artifact_differs_if_its_defect_is_larger_than_its_honest_error(
    mutation: SimpleNamespace, quantized_build: Path
) -> None:
    subject = mutation.subject.Subject("quantized/onnx-int8", quantized_build)
    oracle = mutation.oracle.Oracle(subject, seed=0)
    session = _open(subject)
    name = next(iter(session.outputs))
    run = session.run
    for share, differs in ((1e-4, False), (0.5, True)):
        session.run = lambda inputs, share=share: {name: run(inputs)[name] * (1 + share)}
        assert (oracle.compare(session).ratio > 1) is differs


def test_an_interrupted_run_reads_its_results_and_leaves_out_a_line_that_was_cut_off(
    mutation: SimpleNamespace, tmp_path: Path
) -> None:
    result = mutation.trial.Result("mlp/onnx", "weight zeroed", 1, "w: [0] is zero", "caught")
    results = mutation.trial.Results(tmp_path / "results.jsonl")
    results.add(result)
    with (tmp_path / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"subject": "mlp')
    assert results.read() == [result]


def test_the_page_gives_shares_and_a_reason_for_each_survivor(
    mutation: SimpleNamespace, tmp_path: Path
) -> None:
    caught = mutation.trial.Result("mlp/onnx", "weight zeroed", 1, "w", "caught", "parity", 900.0)
    survivor = replace(caught, kind="size conditional", words="y by batch, one", outcome="survived")
    mutation.page.write_page(
        tmp_path / "page.md", [caught, survivor], "python benchmarks/mutants.py"
    )
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "Lossless: 1 of 2 caught (50.0%)." in page
    assert "| parity | 1 |" in page
    assert mutation.page.explain(survivor, [{"kind": "size", "why": "a limit"}]) == "a limit"
    assert mutation.page.explain(survivor, [{"kind": "weight", "why": "no"}]) == (
        mutation.page.UNEXPLAINED
    )
