"""Baselines: what falls behind fails, and so does an improvement that nobody recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from burnish.baseline import compare, record
from burnish.cli import app
from runtimes.errors import UsageError
from runtimes.results import Build, GateResult, Parity, Row, Speed, Status


def row(**changes: Any) -> Row:
    speed = Speed(speedup=2.0, ci95=(1.95, 2.05), eager_ms=10, median_ms=5)
    parity = Parity(noise=1.0, sqnr_db=120, top1_agreement=1.0, samples=100)
    values = {
        "name": "onnx",
        "format": "onnx",
        "device": "cpu",
        "status": Status.PASSED,
        "precision": "fp32",
        "size_bytes": 1_000_000,
        "speed": speed,
        "parity": parity,
    }
    return Row.model_validate({**values, **changes})


def build(*rows: Row, cpu: str = "Test CPU", name: str = "net") -> Build:
    machine = {"cpu": cpu, "isa": ["avx2"], "cores": 2, "gpus": []}
    return Build(
        recipe={"name": name}, model="m", weights={}, machine=machine, artifacts=list(rows)
    )


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    record([build(row())], tmp_path / "baseline.json")
    return tmp_path / "baseline.json"


def kinds(result: Build, baseline: Path, force: bool = False) -> list[tuple[str, str]]:
    differences = compare([result], baseline, force)
    return [(difference.kind, difference.artifact) for difference in differences]


def test_the_same_build_has_no_changes(baseline: Path) -> None:
    assert kinds(build(row()), baseline) == []


def test_intervals_that_overlap_are_no_change(baseline: Path) -> None:
    assert kinds(build(row(speed=Speed(speedup=1.9, ci95=(1.85, 1.96)))), baseline) == []


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"speed": Speed(speedup=1.5, ci95=(1.45, 1.55))}, "regression"),
        ({"speed": Speed(speedup=3.0, ci95=(2.9, 3.1))}, "improvement"),
        ({"status": Status.FAILED}, "regression"),
        ({"status": Status.BUILT}, "regression"),
        ({"parity": Parity(noise=9.0, sqnr_db=100)}, "regression"),
        ({"parity": Parity(noise=0.2, sqnr_db=130)}, "improvement"),
        ({"parity": Parity(noise=1.0, top1_agreement=0.9, samples=100)}, "regression"),
        ({"size_bytes": 1_100_000}, "regression"),
        ({"size_bytes": 900_000}, "improvement"),
    ],
)
def test_differences_from_the_baseline_are_reported(
    baseline: Path, changes: dict[str, Any], kind: str
) -> None:
    assert kinds(build(row(**changes)), baseline) == [(kind, "onnx@cpu")]


def test_a_lossy_artifact_is_compared_by_sqnr(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    lossy = {"precision": "int8", "parity": Parity(noise=5e4, sqnr_db=25.0)}
    record([build(row(**lossy))], path)
    worse = {"precision": "int8", "parity": Parity(noise=9e4, sqnr_db=20.0)}
    assert kinds(build(row(**worse)), path) == [("regression", "onnx@cpu")]


def test_artifacts_that_are_gone_or_new(baseline: Path) -> None:
    assert kinds(build(row(name="other")), baseline) == [
        ("regression", "onnx@cpu"),
        ("improvement", "other@cpu"),
    ]


def test_another_class_of_machine_is_refused_unless_forced(baseline: Path) -> None:
    elsewhere = build(row(), cpu="Another CPU")
    with pytest.raises(UsageError, match=r"another class of machine .*--force"):
        compare([elsewhere], baseline)
    assert kinds(elsewhere, baseline, force=True) == []


def test_a_recipe_that_the_baseline_does_not_know(baseline: Path) -> None:
    with pytest.raises(UsageError, match="no entry for unknown; record it with --update"):
        compare([build(row(), name="unknown")], baseline)


def noisy(**changes: Any) -> Row:
    """A build on a noisy machine, whose recipe asks for 50x."""
    speed = Speed(speedup=52.83, ci95=(0.12, 298.95), stable=False)
    gate = GateResult(gate="speed", ok=None, detail="52.83x", remedy="--seconds 60")
    return row(**{"speed": speed, "status": Status.FAILED, "gates": [gate], **changes})


def test_what_a_build_could_not_decide_is_neither_compared_nor_recorded(baseline: Path) -> None:
    assert kinds(build(noisy()), baseline) == []
    before = baseline.read_text(encoding="utf-8")
    record([build(noisy())], baseline)
    assert baseline.read_text(encoding="utf-8") == before
    record([build(row(name="b"), noisy(name="c"))], baseline)
    assert list(json.loads(baseline.read_text(encoding="utf-8"))["builds"]["net"]) == ["b@cpu"]
    assert kinds(build(row(name="b"), noisy(name="c")), baseline) == []


def test_the_numbers_of_an_artifact_whose_speed_is_undecided_are_still_compared(
    baseline: Path,
) -> None:
    worse = noisy(parity=Parity(noise=9.0, top1_agreement=1.0, samples=100))
    assert kinds(build(worse), baseline) == [("regression", "onnx@cpu")]


def test_a_failure_beside_an_undecided_gate_is_a_regression(baseline: Path) -> None:
    gates = [*noisy().gates, GateResult(gate="parity", ok=False, detail="noise is 99")]
    assert kinds(build(noisy(gates=gates)), baseline) == [("regression", "onnx@cpu")]


def test_an_unstable_ratio_that_no_gate_needs_is_not_recorded(tmp_path: Path) -> None:
    wide = row(speed=Speed(speedup=5.0, ci95=(4.0, 6.0), stable=False))
    record([build(wide)], tmp_path / "baseline.json")
    entries = json.loads((tmp_path / "baseline.json").read_text(encoding="utf-8"))["builds"]["net"]
    assert entries["onnx@cpu"]["ci95"] is None
    assert kinds(build(row()), tmp_path / "baseline.json") == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 9, "machine": "m", "builds": {}}'])
def test_a_file_that_is_no_baseline(tmp_path: Path, text: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"not a baseline|newer Burnish"):
        compare([build(row())], path)


def test_recording_keeps_the_entries_of_other_recipes(baseline: Path) -> None:
    record([build(row(name="b"), name="second")], baseline)
    assert set(json.loads(baseline.read_text(encoding="utf-8"))["builds"]) == {"net", "second"}


def test_the_command_fails_with_the_command_that_repairs_it(tmp_path: Path) -> None:
    folder, file = tmp_path / "net", tmp_path / "baseline.json"
    folder.mkdir()
    build(row()).write(folder / "build.json")
    args = ["compare", str(folder), "--baseline", str(file)]
    missing = CliRunner().invoke(app, args)
    assert missing.exit_code == 2 and "--update" in missing.output
    assert CliRunner().invoke(app, [*args, "--update"]).exit_code == 0
    assert CliRunner().invoke(app, args).exit_code == 0
    build(row(status=Status.FAILED)).write(folder / "build.json")
    worse = CliRunner().invoke(app, args)
    assert worse.exit_code == 1
    assert "regression: onnx@cpu: status passed -> failed" in worse.output
    assert f"burnish compare {folder} --baseline {file} --update" in worse.output.replace("\n", " ")
