"""build.json is whole, complete and the only truth; exit codes come from its rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtimes.errors import UsageError
from runtimes.files.atomic import write_atomically
from runtimes.results import (
    Build,
    GateResult,
    Outcome,
    Parity,
    Row,
    Speed,
    Status,
    exit_code,
    unmet,
)
from runtimes.validator.rows import settle, undecided_notes
from tests.contract import PARITY, SPEED, missing_keys

statuses = st.sampled_from(Status)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
rows = st.builds(
    Row,
    name=st.sampled_from(["onnx", "torchscript", "tensorrt"]),
    format=st.text(max_size=5),
    device=st.sampled_from(["cpu", "cuda"]),
    status=statuses,
    reason=st.none() | st.text(max_size=20),
    parity=st.builds(Parity, noise=numbers, sqnr_db=numbers),
    speed=st.builds(Speed, speedup=numbers, ci95=st.none() | st.tuples(st.just(1.0), st.just(2.0))),
)


def row(status: Status, name: str = "onnx", device: str = "cpu") -> Row:
    return Row(name=name, format=name, device=device, status=status)


def build(artifacts: list[Row]) -> Build:
    return Build(recipe={"name": "r"}, model="m", weights={}, machine={}, artifacts=artifacts)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rows, max_size=3))
def test_what_is_written_is_read_again(tmp_path: Path, artifacts: list[Row]) -> None:
    build(artifacts).write(tmp_path / "build.json")
    assert Build.read(tmp_path) == Build.read(tmp_path / "build.json") == build(artifacts)


def test_every_name_of_the_contract_is_there_and_null_where_there_is_no_value(
    tmp_path: Path,
) -> None:
    build([row(Status.SKIPPED)]).write(tmp_path / "build.json")
    content = json.loads((tmp_path / "build.json").read_text(encoding="utf-8"))
    assert missing_keys(content) == set()
    [artifact] = content["artifacts"]
    assert artifact["status"] == "skipped"
    assert {artifact["parity"][name] for name in PARITY} == {None}
    assert {artifact["speed"][name] for name in SPEED} == {None}


def test_an_old_reader_reads_a_newer_build(tmp_path: Path) -> None:
    content = json.loads(build([row(Status.PASSED)]).model_dump_json())
    content["energy"] = content["artifacts"][0]["joules"] = 1
    (tmp_path / "build.json").write_text(json.dumps(content))
    assert Build.read(tmp_path) == build([row(Status.PASSED)])


def test_a_real_build_is_in_the_order_of_its_recipe(small_build: Path) -> None:
    result = Build.read(small_build)
    assert [row.name for row in result.artifacts] == ["torchscript", "onnx", "tensorrt"]
    assert result.weights["source"] == "random:0"


def test_no_build_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no build at .*burnish convert"):
        Build.read(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"recipe": {}}', '{"artifacts": 3}'])
def test_a_damaged_build_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "build.json").write_text(text)
    with pytest.raises(
        UsageError, match=r"cannot read .* as a build\.json of this Burnish version"
    ):
        Build.read(tmp_path)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "build.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "half \ud800")  # cannot be encoded: the write stops in its middle
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_into_no_folder_makes_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "build.json", "text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "code", "required"),
    [
        (Status.PASSED, 0, 0),
        (Status.BUILT, 0, 1),
        (Status.SKIPPED, 0, 1),
        (Status.FAILED, 1, 1),
        (Status.ERROR, 3, 3),
    ],
)
def test_the_exit_code_of_one_row(status: Status, code: int, required: int) -> None:
    rows = [row(Status.PASSED, "torchscript"), row(status)]
    assert exit_code(rows) == code
    assert exit_code(rows, ["onnx"]) == required
    assert exit_code(rows, ["all"]) == required
    assert exit_code(rows, ["torchscript"]) == code


@given(st.lists(statuses, max_size=6))
def test_the_worst_row_decides_wherever_it_stands(statuses: list[Status]) -> None:
    expected = 3 if Status.ERROR in statuses else 1 if Status.FAILED in statuses else 0
    assert exit_code([row(status) for status in statuses]) == expected
    assert exit_code([row(status) for status in reversed(statuses)]) == expected


def test_a_required_artifact_must_pass_on_every_device() -> None:
    rows = [row(Status.PASSED), row(Status.BUILT, device="cuda")]
    assert unmet(rows, ["onnx"]) == ["onnx"]
    assert unmet(rows) == []


def test_an_unknown_requirement_is_a_wrong_request() -> None:
    with pytest.raises(UsageError, match="--require onyx: no such artifact; did you mean 'onnx'"):
        exit_code([row(Status.PASSED)], ["onyx"])


def test_no_rows_need_no_pass() -> None:
    assert exit_code([], ["all"]) == 0


def gate(ok: bool | None, remedy: str | None = None, required: bool = True) -> GateResult:
    return GateResult(gate="speed", ok=ok, detail="1x", remedy=remedy, required=required)


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (gate(True), Outcome.HOLDS),
        (gate(False), Outcome.FAILS),
        (gate(None), Outcome.NOT_JUDGED),
        (gate(None, "--seconds 60"), Outcome.UNDECIDED),
    ],
)
def test_a_gate_has_three_answers_or_is_not_judged(result: GateResult, outcome: Outcome) -> None:
    assert result.outcome is outcome
    assert GateResult.model_validate_json(result.model_dump_json()) == result
    old = {"gate": result.gate, "ok": result.ok, "detail": result.detail}
    assert GateResult.model_validate(old).ok is result.ok, "of an older build.json"


OPEN = gate(None, "--seconds 60")
SILENT = gate(None, "--seconds 60", required=False)


@pytest.mark.parametrize(
    ("gates", "status", "reason", "unproven"),
    [
        ([gate(True), gate(None)], "passed", None, False),
        ([gate(True), SILENT], "passed", None, False),
        ([gate(True), OPEN], "failed", "unproven: speed: 1x; --seconds 60", True),
        ([OPEN, gate(False)], "failed", "speed: 1x; unproven: speed: 1x; --seconds 60", False),
    ],
)
def test_what_the_recipe_asks_and_nobody_knows_is_not_passed(
    gates: list[GateResult], status: str, reason: str | None, unproven: bool
) -> None:
    row = settle(Row(name="a", format="onnx", device="cpu", status=Status.PASSED, gates=gates))
    assert (row.status, row.reason, row.unproven) == (status, reason, unproven)
    assert row.undecided is any(result.remedy for result in gates)
    assert exit_code([row]) == (0 if status == "passed" else 1)
    assert len(undecided_notes(gates)) == gates.count(SILENT)


def test_bursts_are_not_in_build_json() -> None:
    speed = Speed(bursts={"own": [0.001]}, launches=2)
    assert json.loads(speed.model_dump_json())["launches"] == 2
    assert "bursts" not in speed.model_dump_json()
