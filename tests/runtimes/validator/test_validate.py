"""The whole verdict: real sessions in processes of their own, one row each, whatever becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from runtimes.artifact import Artifact, publish
from runtimes.devices import gpus
from runtimes.results import Build, Row, Status, exit_code
from runtimes.session import load
from runtimes.validator import validate as module
from runtimes.validator.defaults import Gates
from runtimes.validator.host import Opener
from runtimes.validator.reference import Reference
from runtimes.validator.validate import Target, validate

Make = Callable[..., Artifact]
GATES = ["loads", "shapes", "finite", "precision", "reference", "parity", "deterministic"]


def judge(reference: Reference, *artifacts: Artifact) -> list[Row]:
    """Judge on the CPU; not timed."""
    return validate([Target(artifact, "cpu") for artifact in artifacts], reference, lambda device: None, budget=0)


@pytest.mark.parametrize("name", ["torchscript", "onnx"])
def test_a_correct_artifact_passes_every_gate(small_build: Path, small_reference: Reference, name: str) -> None:
    artifact = Artifact.open(small_build / name)
    [row] = judge(small_reference, artifact)
    assert (row.status, row.reason, row.device, row.path) == ("passed", None, "cpu", name)
    assert [result.gate for result in row.gates] == GATES
    assert row.size_bytes == artifact.size_bytes
    assert row.parity.noise is not None
    assert row.parity.noise < 5
    assert row.parity.samples == 4 + 3  # four probes of one, one of three


def test_a_weight_that_is_wrong_by_one_percent_fails_parity(
    artifact_copy: Callable[[str], Artifact], tmp_path: Path, small_reference: Reference
) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx changes the weight")
    artifact = artifact_copy("onnx")
    model = onnx.load(artifact.entry)
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    values = onnx.numpy_helper.to_array(weight) * np.float32(1.01)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, artifact.entry)
    (artifact.path / "manifest.json").unlink()
    [row] = judge(small_reference, publish(artifact.path, tmp_path / "wrong", artifact.manifest))
    assert row.status is Status.FAILED
    assert row.reason is not None
    assert row.reason.startswith("parity: noise (logits at ")
    assert row.parity.noise is not None
    assert row.parity.noise > 1000


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("answers NaN", "finite: 1 of 3 values of logits at noise 0 are not"),
        ("answers NaN later", "deterministic: logits at noise 0 moved by nan rms between two runs"),
        ("moves a little later", "deterministic: logits at noise 0 moved by "),
        ("changes its shape later", "deterministic: logits at noise 0 is [1, 3], then [2, 3]"),
        ("is wrong by 1 %", "parity: noise (logits at "),
        ("answers float64", "shapes: logits at noise 0 is float64[1, 3], eager's is float32[1, 3]"),
        ("drops a column", "shapes: logits at noise 0 is float32[1, 2], eager's is float32[1, 3]"),
    ],
)
def test_what_an_artifact_does_wrong_is_the_reason(
    linear: Make, linear_reference: Reference, behaviour: str, reason: str
) -> None:
    [row] = judge(linear_reference, linear(behaviour))
    assert row.status is Status.FAILED
    assert row.reason is not None
    assert row.reason.startswith(reason)
    assert exit_code([row]) == 1


def test_a_constant_reference_fails_every_artifact(linear: Make, linear_reference: Reference) -> None:
    zeros = [{"logits": np.zeros_like(one["logits"])} for one in linear_reference.eager]
    [row] = judge(replace(linear_reference, eager=zeros, truth=zeros), linear())
    assert row.status is Status.FAILED
    assert row.reason is not None
    assert row.reason.startswith("reference: eager's output logits is the same for every probe")


def test_sessions_that_end_badly_do_not_stop_the_others(linear: Make, linear_reference: Reference) -> None:
    changed = linear("is changed on disk")
    changed.entry.write_text("tampered", encoding="utf-8")
    unknown = linear("has no runtime", runtime="lineal")
    rows = judge(linear_reference, linear("is killed"), linear("raises on load"), changed, unknown, linear())
    assert [row.status for row in rows] == ["error", "error", "error", "error", "passed"]
    reasons = [row.reason or "" for row in rows]
    assert reasons[0] == "runs: the linear session of is-killed on cpu was killed by SIGSEGV"
    assert reasons[1] == "runs: RuntimeError: no engine today"
    assert reasons[2].startswith("loads: ")
    assert "model.txt was changed after it was made" in reasons[2]
    assert reasons[3].startswith("loads: unknown runtime 'lineal'")
    assert exit_code(rows) == 3


def test_a_session_that_hangs_is_stopped(
    linear: Make, linear_reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.5)
    [row] = judge(linear_reference, linear("hangs"))
    assert row.status is Status.ERROR
    assert row.reason == "runs: the linear session of hangs on cpu gave no answer for 0.5 s and was stopped"


def test_an_artifact_that_cannot_run_here_is_built(linear: Make, linear_reference: Reference) -> None:
    [row] = judge(linear_reference, linear(build={"behaviour": "is correct", "missing": "no linear accelerator"}))
    assert row.status is Status.BUILT
    assert row.reason is not None
    assert row.reason.endswith("no linear accelerator")
    assert (row.gates, row.parity.noise) == ([], None)
    assert exit_code([row]) == 0
    assert exit_code([row], ["all"]) == 1


@pytest.mark.skipif(bool(gpus()), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_built(small_build: Path, small_reference: Reference) -> None:
    artifact = Artifact.open(small_build / "onnx")
    rows = validate(
        [Target(artifact, "cpu"), Target(artifact, "cuda")], small_reference, lambda device: None, budget=0
    )
    assert [(row.device, row.status) for row in rows] == [("cpu", "passed"), ("cuda", "built")]


def test_the_gates_of_the_manifest_are_asked(linear: Make, linear_reference: Reference) -> None:
    [row] = judge(linear_reference, linear(gates=Gates(sqnr_db=399)))
    assert row.status is Status.FAILED
    assert row.reason is not None
    assert row.reason.endswith("at least 399")


@pytest.mark.parametrize(("asked", "status"), [(1e-6, Status.PASSED), (1e6, Status.FAILED), (None, Status.PASSED)])
def test_speed_is_judged_by_what_was_asked(
    linear: Make, linear_reference: Reference, asked: float | None, status: Status
) -> None:
    """Whatever the machine, an artifact is a millionth as fast as itself and not a million times as fast."""
    artifact = linear(gates=Gates(speedup=asked))
    eager: Opener = partial(load, artifact.path)
    [row] = validate([Target(artifact, "cpu")], linear_reference, lambda device: eager, budget=0.05)
    assert row.status is status
    assert row.gates[-1].gate == "speed"
    assert row.speed.speedup is not None
    assert row.speed.eager_ms is not None


def test_an_eager_model_that_cannot_be_opened_is_an_error_of_each_row(
    linear: Make, linear_reference: Reference, tmp_path: Path
) -> None:
    eager: Opener = partial(load, tmp_path / "nothing")
    rows = validate(
        [Target(linear(), "cpu"), Target(linear("is wrong by 1 %"), "cpu")],
        linear_reference,
        lambda device: eager,
        budget=0.05,
    )
    assert [row.status for row in rows] == ["error", "error"]
    assert all(row.reason and row.reason.startswith("speed: ") and "not an artifact" in row.reason for row in rows)


def test_without_an_eager_model_latency_is_told_and_not_judged(linear: Make, linear_reference: Reference) -> None:
    [row] = validate([Target(linear(), "cpu")], linear_reference, lambda device: None, budget=0.05)
    assert (row.status, row.gates[-1].detail) == ("passed", "not measured")
    assert row.speed.median_ms is not None
    assert row.speed.speedup is None


def test_progress_and_log_tell_what_happens(linear: Make, linear_reference: Reference, tmp_path: Path) -> None:
    said: list[str] = []
    log = tmp_path / "validate.log"
    target = Target(linear("raises on load"), "cpu")
    validate([target], linear_reference, lambda device: None, budget=0, log=log, progress=said.append)
    assert said == ["checking the numbers of raises-on-load on cpu"]
    assert "RuntimeError: no engine today" in log.read_text(encoding="utf-8")


@pytest.mark.gpu
def test_no_artifact_of_a_build_fails_on_a_gpu(gpu_build: Path) -> None:
    rows = [row for row in Build.read(gpu_build).artifacts if row.device == "cuda"]
    assert {row.name for row in rows} == {"torchscript", "onnx", "tensorrt", "torch-tensorrt"}
    assert {row.name: row.reason for row in rows if row.status in (Status.FAILED, Status.ERROR)} == {}
