"""The whole verdict: real sessions in isolated processes, one row each in every case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from runtimes.artifact.artifact import Artifact, publish
from runtimes.artifact.gates import Gates
from runtimes.machine.devices import gpus
from runtimes.points import points
from runtimes.results import Build, Row, Status, exit_code
from runtimes.session import load
from runtimes.validator import judge as module
from runtimes.validator.defaults import SYNTHETIC_PROBES
from runtimes.validator.host import Opener
from runtimes.validator.reference import Reference
from runtimes.validator.validate import Target, validate

Make = Callable[..., Artifact]
LinearData = Callable[..., Reference]
GATES = [
    "loads",
    "shapes",
    "finite",
    "precision",
    "reference",
    "parity",
    "parity",
    "parity",
    "batch",
    "deterministic",
]


def judge(reference: Reference, *artifacts: Artifact) -> list[Row]:
    """Judge on the CPU; not timed."""
    return validate(
        [Target(artifact, "cpu") for artifact in artifacts],
        reference,
        lambda device: None,
        budget=0,
    )


@pytest.mark.parametrize("name", ["torchscript", "onnx"])
def test_a_correct_artifact_passes_every_gate(
    small_build: Path, small_reference: Reference, name: str
) -> None:
    artifact = Artifact.open(small_build / name)
    [row] = judge(small_reference, artifact)
    assert (row.status, row.reason, row.device, row.path) == ("passed", None, "cpu", name)
    assert [result.gate for result in row.gates] == GATES
    assert row.size_bytes == artifact.size_bytes
    assert row.parity.noise is not None
    assert row.parity.noise < 5
    assert (
        row.parity.samples == SYNTHETIC_PROBES
    )  # larger batches repeat them, and edge values are no samples
    assert row.parity.top1_agreement is None, "noise has no classes to agree on"
    assert [(output.name, output.not_finite) for output in row.parity.outputs] == [("logits", 0)]
    details = {result.gate: result.detail for result in row.gates}
    assert details["batch"].endswith(" batches equal the same samples alone")


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
        ("answers NaN", "finite: 1 of 3 values of logits at noise 0 are NaN or Inf"),
        (
            "answers NaN the second time",
            "deterministic: logits at ",
        ),
        ("moves a little the second time", "deterministic: logits at "),
        (
            "changes its shape the second time",
            "deterministic: logits at ",
        ),
        (
            "answers NaN to large values",
            "finite: 1 of 3 values of logits at edge large are NaN or Inf",
        ),
        ("adds a bias to small values", "parity: noise (logits at edge "),
        ("is wrong at the largest batch", "parity: noise (logits at size batch=8) is "),
        ("subtracts a share of the batch mean", "parity: noise (logits at "),
        ("swaps two classes", "parity: noise (logits at "),
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


@pytest.mark.parametrize(
    "behaviour", ["answers NaN to large values", "adds a bias to small values"]
)
def test_a_lossy_artifact_is_not_judged_on_edge_values(
    linear: Make, linear_reference: Reference, behaviour: str
) -> None:
    [row] = judge(linear_reference, linear(behaviour, precision="fp16"))
    assert (row.status, row.reason) == ("passed", None)


def test_a_lossy_artifact_that_mixes_the_rows_of_a_batch_fails_batch(
    linear: Make, linear_data: LinearData
) -> None:
    """A thousandth of the mean is within fp16's error of a large row, but not of a small one."""
    samples = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    samples[1] *= 1e-3
    mixing = linear("subtracts a share of the batch mean", precision="fp16")
    own_scale = linear("is correct", precision="fp16")
    rows = judge(linear_data(samples), mixing, own_scale)
    assert [row.status for row in rows] == ["failed", "passed"]
    assert rows[0].reason is not None
    assert rows[0].reason.startswith(
        "batch: row 1 of logits at size batch=3 differs from the same sample alone by "
    )


@pytest.mark.parametrize(
    ("count", "verdict"),
    [(4, "; too few samples to prove it"), (200, ", at most 2 points")],
    ids=["few", "many"],
)
def test_no_accuracy_lost_passes_and_says_what_so_few_samples_cannot_prove(
    linear: Make, linear_data: LinearData, count: int, verdict: str
) -> None:
    samples = np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32)
    [row] = judge(linear_data(samples), linear(gates=Gates(accuracy_drop=0.02)))
    assert row.status is Status.PASSED
    assert row.parity.accuracy is not None
    assert (row.parity.accuracy.samples, row.parity.accuracy.drop) == (count, 0)
    [detail] = [result.detail for result in row.gates if "accuracy" in result.detail]
    assert detail.startswith(
        f"accuracy 100.0%, eager's 100.0%: drop 0 points on {count} samples (95 %: "
    )
    assert detail.endswith(verdict)


def test_accuracy_lost_fails(linear: Make, linear_data: LinearData) -> None:
    samples = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    reference = linear_data(samples)
    swapped = sum(label in (0, 1) for probe in reference.probes[:40] for label in probe.labels)
    assert swapped
    gates = Gates(noise=1e12, accuracy_drop=0.02)
    [row] = judge(reference, linear("swaps two classes", gates=gates))
    assert row.status is Status.FAILED
    assert row.reason is not None
    assert row.reason.startswith(
        f"parity: accuracy {1 - swapped / 40:.1%}, eager's 100.0%: drop {points(swapped / 40)}"
    )


def test_an_accuracy_drop_without_labels_says_what_to_name(
    linear: Make, linear_data: LinearData
) -> None:
    samples = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    [row] = judge(linear_data(samples, labelled=False), linear(gates=Gates(accuracy_drop=0.5)))
    assert row.status is Status.FAILED
    assert row.reason is not None
    assert row.reason.endswith("no probe has labels: add `labels:` to `data:`")


def test_a_constant_reference_fails_every_artifact(
    linear: Make, linear_reference: Reference
) -> None:
    zeros = [{"logits": outputs["logits"] * 0} for outputs in linear_reference.eager]
    [row] = judge(replace(linear_reference, eager=zeros, truth=zeros), linear())
    assert row.status is Status.FAILED
    assert row.reason is not None
    assert row.reason.startswith("reference: eager's output logits is the same for every probe")


def test_sessions_that_end_badly_do_not_stop_the_others(
    linear: Make, linear_reference: Reference
) -> None:
    changed = linear("is changed on disk")
    changed.entry.write_text("tampered", encoding="utf-8")
    unknown = linear("has no runtime", runtime="lineal")
    rows = judge(
        linear_reference, linear("is killed"), linear("raises on load"), changed, unknown, linear()
    )
    assert [row.status for row in rows] == ["error", "error", "error", "error", "passed"]
    reasons = [row.reason or "" for row in rows]
    assert reasons[0] == "runs: the linear session of is-killed on cpu was killed by SIGSEGV"
    assert reasons[1] == "loads: raises-on-load cannot be opened: RuntimeError: no engine today"
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
    assert (
        row.reason
        == "runs: the linear session of hangs on cpu gave no answer for 0.5 s and was stopped"
    )


def test_an_artifact_that_cannot_run_here_is_built(
    linear: Make, linear_reference: Reference
) -> None:
    [row] = judge(
        linear_reference,
        linear(build={"behaviour": "is correct", "missing": "no linear accelerator"}),
    )
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
        [Target(artifact, "cpu"), Target(artifact, "cuda")],
        small_reference,
        lambda device: None,
        budget=0,
    )
    assert [(row.device, row.status) for row in rows] == [("cpu", "passed"), ("cuda", "built")]


def test_the_gates_of_the_manifest_are_asked(linear: Make, linear_reference: Reference) -> None:
    [row] = judge(linear_reference, linear(gates=Gates(sqnr_db=399)))
    assert row.status is Status.FAILED
    assert row.reason is not None
    assert row.reason.endswith("at least 399")


@pytest.mark.parametrize(
    ("required", "status"), [(1e-6, Status.PASSED), (1e6, Status.FAILED), (None, Status.PASSED)]
)
def test_speed_is_judged_by_what_was_asked(
    linear: Make, linear_reference: Reference, required: float | None, status: Status
) -> None:
    """On any machine an artifact reaches a millionth of its own speed and not a million times."""
    artifact = linear(gates=Gates(speedup=required))
    eager: Opener = partial(load, artifact.path)
    [row] = validate([Target(artifact, "cpu")], linear_reference, lambda device: eager, budget=0.05)
    assert row.status is status
    [speed] = [result for result in row.gates if result.gate == "speed"]
    assert speed.ok is {None: None, 1e-6: True, 1e6: False}[required]
    assert row.speed.speedup is not None
    assert row.speed.eager_ms is not None


def test_an_undecided_measurement_is_added_to(linear: Make, linear_reference: Reference) -> None:
    """A thousand times slower in an earlier launch, the pooled ratio is no longer about one."""
    artifact, other = linear(gates=Gates(speedup=1.0)), linear("is correct again")
    eager: Opener = partial(load, other.path)
    before = {"own": [1000.0] * 8, "eager": [1.0] * 8}
    target = Target(artifact, "cpu", earlier=[before])
    [row] = validate([target], linear_reference, lambda device: eager, budget=0.3)
    assert (row.speed.launches, row.status) == (2, Status.FAILED)
    assert row.speed.speedup is not None and row.speed.speedup < 0.5
    assert set(row.speed.bursts) == {"own", "eager"}
    assert any("pools this measurement with 1 of earlier builds" in note for note in row.notes)


CHEATS = [
    ("repeats its last answer in haste", "answers while timed differ from "),
    ("is off by two after 100 calls", "logits at noise 0 differs by "),
    ("looks up arrays by their identity", "answers while timed differ from "),
    ("returns one of ten buffers", "logits of one call is overwritten by the next"),
]


@pytest.mark.parametrize(("precision", "with_eager"), [("fp32", True), ("fp16", False)])
@pytest.mark.parametrize(("behaviour", "reason"), CHEATS)
def test_an_artifact_that_is_right_untimed_and_wrong_when_timed_fails(
    linear: Make,
    linear_reference: Reference,
    behaviour: str,
    reason: str,
    precision: str,
    with_eager: bool,
) -> None:
    cheat, honest = linear(behaviour, precision=precision), linear()
    eager: Opener | None = partial(load, honest.path) if with_eager else None
    [row] = validate([Target(cheat, "cpu")], linear_reference, lambda device: eager, budget=0.3)
    assert row.status is Status.FAILED
    assert row.reason is not None
    assert row.reason.startswith("answers: "), row.reason
    assert reason in row.reason
    assert all(result.ok is not False for result in row.gates if result.gate != "answers")


def test_inputs_that_were_seen_are_not_seen_again(
    linear: Make, linear_reference: Reference
) -> None:
    """A lookup gains a thousandfold where inputs repeat; here it computes whatever it is asked."""
    artifacts = linear("looks up what it has seen"), linear("takes its time")
    eager: Opener = partial(load, artifacts[1].path)
    gates = Gates(speedup=10)
    targets = [
        Target(
            replace(artifact, manifest=artifact.manifest.model_copy(update={"gates": gates})), "cpu"
        )
        for artifact in artifacts
    ]
    rows = validate(targets, linear_reference, lambda device: eager, budget=0.5)
    assert [row.status for row in rows] == [Status.FAILED] * 2
    assert all(row.reason and "speed: " in row.reason for row in rows), [row.reason for row in rows]
    details = [gate.detail for row in rows for gate in row.gates if gate.gate == "answers"]
    assert all("answers given while timed are eager's" in detail for detail in details)


@pytest.mark.parametrize("name", ["torchscript", "onnx"])
def test_real_engines_answer_while_timed_as_otherwise(
    small_build: Path, small_reference: Reference, name: str
) -> None:
    artifact, other = Artifact.open(small_build / name), small_build / "torchscript"
    eager: Opener = partial(load, other)
    [row] = validate([Target(artifact, "cpu")], small_reference, lambda device: eager, budget=0.3)
    [gate] = [result for result in row.gates if result.gate == "answers"]
    assert gate.ok, gate.detail


@pytest.mark.parametrize(("required", "status"), [(1e-6, Status.PASSED), (1e6, Status.FAILED)])
def test_what_passes_made_may_not_be_slower_than_what_they_started_from(
    linear: Make, linear_reference: Reference, required: float, status: Status
) -> None:
    artifact, parent = (
        linear(gates=Gates(speedup=None, parent_speedup=required)),
        linear("is correct again"),
    )
    [row] = validate(
        [Target(artifact, "cpu", parent)], linear_reference, lambda device: None, budget=0.05
    )
    [gate] = [result for result in row.gates if result.gate == "parent"]
    assert (row.status, gate.ok) == (status, status is Status.PASSED)
    assert row.speed.parent is not None
    assert row.speed.parent.speedup is not None
    assert (row.speed.parent.name, row.speed.parent.size_bytes) == (
        "is-correct-again",
        parent.size_bytes,
    )


@pytest.mark.parametrize(
    ("after", "missing"), [(70, None), (100, None), (70, "no device"), (100, "no device")]
)
def test_what_was_pruned_must_be_smaller_even_where_it_cannot_run(
    linear: Make, linear_reference: Reference, after: int, missing: str | None
) -> None:
    report = {"options": {"structured": 0.3}, "before": {"bytes": 100}, "after": {"bytes": after}}
    build = {"behaviour": "is correct", "missing": missing, "passes": [{"prune": report}]}
    [row] = judge(linear_reference, linear(build=build))
    smaller = Status.BUILT if missing else Status.PASSED
    assert row.status is (smaller if after < 100 else Status.FAILED)
    assert [result.ok for result in row.gates if result.gate == "size"] == [after < 100]
    if after == 100:
        assert (
            row.reason
            == "size: 100.0% of the weights before (100 of 100 bytes), required less than 100%"
        )


def test_a_parent_that_cannot_be_timed_judges_nobody(
    linear: Make, linear_reference: Reference
) -> None:
    target = Target(linear(), "cpu", linear("raises on load"))
    [row] = validate([target], linear_reference, lambda device: None, budget=0.05)
    [gate] = [result for result in row.gates if result.gate == "parent"]
    assert (row.status, gate.ok) == (Status.PASSED, None)


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
    assert all(
        row.reason and row.reason.startswith("speed: ") and "not an artifact" in row.reason
        for row in rows
    )


def test_without_an_eager_model_latency_is_told_and_not_judged(
    linear: Make, linear_reference: Reference
) -> None:
    [row] = validate([Target(linear(), "cpu")], linear_reference, lambda device: None, budget=0.05)
    [speed] = [result for result in row.gates if result.gate == "speed"]
    assert (row.status, speed.ok, speed.detail) == ("passed", None, "not measured")
    assert row.speed.median_ms is not None
    assert row.speed.speedup is None


def test_progress_and_log_tell_what_happens(
    linear: Make, linear_reference: Reference, tmp_path: Path
) -> None:
    messages: list[str] = []
    log = tmp_path / "validate.log"
    target = Target(linear("raises on load"), "cpu")
    validate(
        [target], linear_reference, lambda device: None, budget=0, log=log, progress=messages.append
    )
    assert messages == ["checking the numbers of raises-on-load on cpu"]
    assert "RuntimeError: no engine today" in log.read_text(encoding="utf-8")


@pytest.mark.gpu
def test_no_artifact_of_a_build_fails_on_a_gpu(gpu_build: Path) -> None:
    rows = [row for row in Build.read(gpu_build).artifacts if row.device == "cuda"]
    assert {row.name for row in rows} == {"torchscript", "onnx", "tensorrt", "torch-tensorrt"}
    assert {
        row.name: row.reason for row in rows if row.status in (Status.FAILED, Status.ERROR)
    } == {}
