"""Builds reuse the results of earlier ones: unchanged steps do not run again, and nothing else is cached."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from converters.build.build import build
from converters.build.explain import explain
from converters.build.options import BuildOptions
from converters.build.verdicts import Verdicts
from converters.plan.load import load_recipe
from converters.steps.runner import Runner
from runtimes.artifact.artifact import Artifact
from runtimes.results import Build, GateResult, Row, Speed, Status
from runtimes.validator.validate import Target

Ran = Callable[..., tuple[Build, list[str]]]

FACTORY = """
from torch import nn
from pieces import width


def build():
    return nn.Sequential(nn.Linear(4, width()), nn.ReLU(), nn.Linear(width(), 3))
"""
# ONNX by the exporter that takes a fraction of a second: these tests build some forty times.
RECIPE = """
model: python:whole:build
weights: random:0
inputs: {x: {shape: [batch, 4]}}
dims: {batch: {min: 1, max: 4}}
artifacts:
  torchscript: {}
  onnx: {exporter: torchscript}
  older: {format: onnx, exporter: torchscript, opset: 18}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network whose factory imports a second module; a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "whole.py").write_text(FACTORY, encoding="utf-8")
    (tmp_path / "pieces.py").write_text("def width():\n    return 8\n", encoding="utf-8")
    (tmp_path / "net.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path / "net.yaml"


@pytest.fixture
def ran(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Returns the result of a build, and the steps that really ran."""
    names: list[str] = []
    real = Runner._work

    def counted(self: Runner, step: Any, *args: Any) -> Any:
        names.append(step.name)
        return real(self, step, *args)

    monkeypatch.setattr(Runner, "_work", counted)

    def run(
        *settings: str, output: str = "out", path: Path = recipe, **options: Any
    ) -> tuple[Build, list[str]]:
        names.clear()
        build_options = BuildOptions(**{"cache": True, **options})
        plan = load_recipe(path, settings)
        result = build(plan, tmp_path / output, budget=0, options=build_options)
        assert {row.status for row in result.artifacts} == {Status.PASSED}
        return result, list(names)

    return run


ALL = ["load", "torchscript", "onnx", "older"]


def test_what_is_unchanged_is_neither_made_nor_judged_again(ran: Ran, tmp_path: Path) -> None:
    first, names = ran()
    assert sorted(names) == sorted(ALL)
    files = {path: path.stat().st_ino for path in (tmp_path / "out").glob("*/model.*")}
    second, names = ran()
    assert names == []
    assert files == {path: path.stat().st_ino for path in (tmp_path / "out").glob("*/model.*")}, (
        "left alone"
    )
    assert [row.parity for row in second.artifacts] == [row.parity for row in first.artifacts]
    assert all(row.judged for row in second.artifacts) and not any(
        row.judged for row in first.artifacts
    )
    assert any("3 of 3 verdicts are from earlier builds" in note for note in second.notes)


def test_another_folder_gets_the_same_files_without_work(ran: Ran, tmp_path: Path) -> None:
    ran()
    _, names = ran(output="elsewhere")
    assert names == []
    for name in ALL[1:]:
        Artifact.open(tmp_path / "elsewhere" / name).verify()
        assert (
            Artifact.open(tmp_path / "elsewhere" / name).manifest
            == Artifact.open(tmp_path / "out" / name).manifest
        )


def test_one_changed_artifact_is_the_only_one_that_is_made(ran: Ran) -> None:
    ran()
    result, names = ran("artifacts.older.opset=17")
    assert names == ["older"]
    assert [row.name for row in result.artifacts if not row.judged] == ["older"]


def test_a_gate_changes_a_verdict_and_no_file(ran: Ran) -> None:
    ran()
    result, names = ran("artifacts.onnx.gates.noise=17")
    assert names == []
    assert [row.name for row in result.artifacts if not row.judged] == ["onnx"]


def test_a_module_that_the_factory_imports_counts(ran: Ran, tmp_path: Path) -> None:
    ran()
    (tmp_path / "pieces.py").write_text("def width():\n    return 9\n", encoding="utf-8")
    _, names = ran()
    assert sorted(names) == sorted(ALL)
    (tmp_path / "pieces.py").write_text("def width():\n    return 8\n", encoding="utf-8")
    assert ran()[1] == [], "its earlier results are still cached"


def test_a_change_that_changes_no_result_stops_there(ran: Ran, tmp_path: Path) -> None:
    """The weights are the same, so a step that starts from the ONNX graph does not run again."""
    ran("artifacts.vino.format=openvino")
    (tmp_path / "pieces.py").write_text("def width():\n    return 4 + 4\n", encoding="utf-8")
    _, names = ran("artifacts.vino.format=openvino")
    assert "vino" not in names
    assert "load" in names


def test_a_fresh_build_takes_nothing_from_the_cache(ran: Ran) -> None:
    ran()
    result, names = ran(fresh=True)
    assert sorted(names) == sorted(ALL)
    assert not any(row.judged for row in result.artifacts)
    assert ran()[1] == [], "it was cached"


def test_without_the_cache_nothing_is_reused_or_cached(ran: Ran, tmp_path: Path) -> None:
    _, names = ran(cache=False)
    assert sorted(names) == sorted(ALL)
    assert not (tmp_path / "cache" / "burnish" / "steps").exists()
    assert sorted(ran()[1]) == sorted(ALL)


def test_a_damaged_result_is_made_again(ran: Ran, tmp_path: Path) -> None:
    ran()
    entries = tmp_path / "cache" / "burnish" / "steps" / "entries"
    model = next(path for path in entries.glob("*/files/model.onnx"))
    model.write_bytes(model.read_bytes()[:-1])
    result, names = ran(output="elsewhere")
    assert len(names) == 1 and names[0] in ("onnx", "older")
    assert any("was damaged: its step runs again" in note for note in result.notes)
    Artifact.open(tmp_path / "elsewhere" / names[0]).verify()


def test_a_result_that_lost_a_file_is_made_again(ran: Ran, tmp_path: Path) -> None:
    ran()
    entries = tmp_path / "cache" / "burnish" / "steps" / "entries"
    next(entries.glob("*/files/model.pt")).unlink()
    assert ran(output="elsewhere")[1] == ["torchscript"]
    Artifact.open(tmp_path / "elsewhere" / "torchscript").verify()


def test_a_damaged_result_is_made_once_though_several_steps_start_from_it(
    ran: Ran, tmp_path: Path
) -> None:
    ran()
    entries = tmp_path / "cache" / "burnish" / "steps" / "entries"
    next(entries.glob("*/files/state.pt")).write_bytes(b"no state")
    for path in entries.iterdir():
        if not (path / "files" / "state.pt").exists():
            shutil.rmtree(path)
    _, names = ran(jobs=3)
    assert sorted(names) == sorted(ALL)


def test_a_fresh_build_sees_changes_that_no_trace_records(ran: Ran, tmp_path: Path) -> None:
    """Such as the target of a link."""
    (tmp_path / "pieces.py").write_text(
        "import os\ndef width():\n    return int(os.readlink(__file__[:-9] + 'width'))\n",
        encoding="utf-8",
    )
    (tmp_path / "width").symlink_to("8")
    ran()
    (tmp_path / "width").unlink()
    (tmp_path / "width").symlink_to("9")
    ran(fresh=True)
    weights = (tmp_path / "out" / "onnx" / "manifest.json").read_text(encoding="utf-8")
    assert json.loads(weights)["build"]["parameters"] == 4 * 9 + 9 + 9 * 3 + 3
    assert ran()[1] == []


def test_code_in_the_output_folder_counts(ran: Ran, tmp_path: Path) -> None:
    """`burnish convert net.yaml -o .`"""
    ran(output=".")
    (tmp_path / "pieces.py").write_text("def width():\n    return 9\n", encoding="utf-8")
    assert "load" in ran(output=".")[1]


def test_a_damaged_state_is_loaded_again_before_something_starts_from_it(
    ran: Ran, tmp_path: Path
) -> None:
    ran()
    entries = tmp_path / "cache" / "burnish" / "steps" / "entries"
    state = next(entries.glob("*/files/state.pt"))
    state.write_bytes(b"no state")
    assert ran("artifacts.older.opset=17")[1] == ["load", "older"]


def test_an_artifact_that_was_changed_is_put_back(ran: Ran, tmp_path: Path) -> None:
    ran()
    model = tmp_path / "out" / "onnx" / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(b"changed")
    assert ran()[1] == []
    assert model.read_bytes() == whole


def test_side_by_side_the_same_is_made(ran: Ran, tmp_path: Path) -> None:
    ran()
    _, names = ran(output="elsewhere", fresh=True, jobs=3)
    assert sorted(names) == sorted(ALL)
    for name in ALL[1:]:
        assert (
            Artifact.open(tmp_path / "elsewhere" / name).manifest
            == Artifact.open(tmp_path / "out" / name).manifest
        )


def test_explain_says_what_must_run_and_why(ran: Ran, recipe: Path, tmp_path: Path) -> None:
    def words(*settings: str) -> dict[str, str | None]:
        explanations = explain(load_recipe(recipe, settings), tmp_path / "out")
        return {explanation.step: explanation.why for explanation in explanations}

    assert words()["load"] == "it was not built here before"
    assert words()["onnx"] == "load must run first, and its result may change"
    ran()
    assert words() == dict.fromkeys(["load", "torchscript", "onnx", "older"])
    assert words("artifacts.older.opset=17")["older"] == "options.opset changed 18 -> 17"
    assert words("weights=random:1")["load"] == 'weights changed ["random:0"] -> ["random:1"]'
    (tmp_path / "pieces.py").write_text("def width():\n    return 9\n", encoding="utf-8")
    assert words()["load"] == "pieces.py changed"


def test_damaged_verdicts_are_not_reused(ran: Ran, tmp_path: Path) -> None:
    ran()
    verdicts = sorted((tmp_path / "cache" / "burnish" / "verdicts").iterdir())
    assert len(verdicts) == 3
    record = json.loads(verdicts[0].read_text(encoding="utf-8"))
    record["row"]["size_bytes"] = 1
    verdicts[0].write_text(json.dumps(record), encoding="utf-8")
    verdicts[1].write_text("{", encoding="utf-8")
    result, _ = ran()
    assert len([row for row in result.artifacts if row.judged]) == 1


@pytest.fixture
def passed(small_build: Path) -> tuple[Target, Row]:
    """An artifact that passed, and the row of its verdict."""
    row = next(row for row in Build.read(small_build).artifacts if row.name == "onnx")
    return Target(Artifact.open(small_build / "onnx"), "cpu"), row


def test_an_artifact_that_can_run_now_is_judged(
    passed: tuple[Target, Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new driver changes nothing that the key of a verdict contains."""
    target, row = passed
    verdicts = Verdicts(tmp_path / "verdicts", "conditions")
    verdicts.put(target, row.model_copy(update={"status": Status.BUILT, "judged": None}))
    assert verdicts.get(target) is None
    monkeypatch.setattr("converters.build.verdicts.unavailable", lambda *_: "no driver")
    assert verdicts.get(target) is not None


def test_a_failed_artifact_is_judged_again(recipe: Path, tmp_path: Path) -> None:
    plan = load_recipe(recipe, ["artifacts.onnx.gates.noise=1e-9"])
    for _ in range(2):
        result = build(plan, tmp_path / "out", budget=0, options=BuildOptions(cache=True))
        row = next(row for row in result.artifacts if row.name == "onnx")
        assert (row.status, row.judged) == (Status.FAILED, None)


def undecided(row: Row, bursts: dict[str, list[float]], **speed: Any) -> Row:
    """The row of a measurement that leaves a default gate open."""
    gate = GateResult(gate="speed", ok=None, detail="1x", remedy="--seconds 60", required=False)
    values = {"speedup": 1.0, "ci95": (0.9, 1.1), "rounds": 8, "usual": True, "bursts": bursts}
    measured = Speed.model_validate({**values, **speed})
    return row.model_copy(update={"gates": [gate], "speed": measured, "judged": None})


def test_an_undecided_measurement_is_repeated_and_added_to_the_next(
    passed: tuple[Target, Row], tmp_path: Path
) -> None:
    target, judged = passed
    verdicts = Verdicts(tmp_path / "verdicts", "eight seconds", "any")
    first, second = ({"own": [1.0, value], "eager": [2.0, 2.0]} for value in (1.1, 1.2))
    verdicts.put(target, undecided(judged, first))
    assert verdicts.get(target) is None, "it is measured again"
    assert verdicts.earlier(target) == [first]
    longer = Verdicts(tmp_path / "verdicts", "sixty seconds", "any")
    verdicts.put(replace(target, earlier=longer.earlier(target)), undecided(judged, second))
    assert longer.earlier(target) == [first, second]
    assert Verdicts(tmp_path / "verdicts", "", "another machine").earlier(target) == []


@pytest.mark.parametrize(
    "spoilt", [{"usual": False}, {"rounds": 3}, {"ci95": (0.12, 298.95), "speedup": 52.83}]
)
def test_a_measurement_that_would_spoil_the_next_is_not_kept(
    passed: tuple[Target, Row], tmp_path: Path, spoilt: dict[str, Any]
) -> None:
    target, judged = passed
    verdicts = Verdicts(tmp_path / "verdicts", "a", "b")
    verdicts.put(target, undecided(judged, {"own": [1.0], "eager": [2.0]}, **spoilt))
    assert verdicts.earlier(target) == []


def test_damaged_times_are_not_reused(passed: tuple[Target, Row], tmp_path: Path) -> None:
    target, judged = passed
    verdicts = Verdicts(tmp_path / "verdicts", "a", "b")
    verdicts.put(target, undecided(judged, {"own": [1.0], "eager": [2.0]}))
    [file] = (tmp_path / "verdicts").iterdir()
    file.write_text('[{"own": "x"}]', encoding="utf-8")
    assert verdicts.earlier(target) == []
