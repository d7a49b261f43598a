"""`burnish.validate`: by the reference beside the artifacts, and without running a user's code."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import burnish
from runtimes.errors import UsageError
from runtimes.results import Row, Status

EditJson = Callable[..., None]


def judged(path: Path, **options) -> dict[str, Row]:
    return {
        row.name: row for row in burnish.validate(path, **{"speed": False, **options}).artifacts
    }


@pytest.fixture
def tiny_build(tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build of a python: model, whose factory has left no trace since; timing is short."""
    burnish.convert(tiny_recipe, tmp_path / "out", speed=False, cache=False)
    (tmp_path / "imported").unlink()
    return tmp_path / "out"


def test_a_python_models_code_is_not_run_unless_its_recipe_is_named(
    tiny_build: Path, tmp_path: Path
) -> None:
    build = burnish.validate(tiny_build, speed=True, seconds=0.3)
    (row,) = build.artifacts
    assert row.status is Status.PASSED
    assert row.speed.median_ms is not None
    assert row.speed.speedup is None
    assert "--recipe" in build.notes[-1]
    assert not (tmp_path / "imported").exists()


def test_with_its_recipe_it_is_timed_against_eager(
    tiny_build: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    (row,) = burnish.validate(tiny_build, recipe=tiny_recipe, seconds=0.3).artifacts
    assert row.speed.speedup is not None
    assert row.speed.eager_ms is not None
    assert (tmp_path / "imported").exists()


def test_a_copy_of_a_build_is_judged_like_the_build(small_build: Path, build_copy: Path) -> None:
    original, copy = judged(small_build), judged(build_copy)
    assert list(original) == list(copy)
    for name, row in original.items():
        assert row.parity == copy[name].parity


def test_an_artifact_that_is_gone_or_damaged_is_a_row_of_its_own(build_copy: Path) -> None:
    shutil.rmtree(build_copy / "onnx")
    (build_copy / "torchscript" / "manifest.json").write_text("{", encoding="utf-8")
    rows = judged(build_copy)
    assert rows["onnx"].status is rows["torchscript"].status is Status.ERROR
    assert "is not an artifact" in str(rows["onnx"].reason)
    assert "is damaged" in str(rows["torchscript"].reason)


def test_an_artifact_with_an_extra_file_is_an_error(build_copy: Path) -> None:
    (build_copy / "onnx" / "extra.so").write_bytes(b"")
    row = judged(build_copy / "onnx")["onnx"]
    assert row.status is Status.ERROR
    assert "extra.so is not in the manifest" in str(row.reason)


def test_a_missing_reference_is_an_error(build_copy: Path) -> None:
    (build_copy / "reference.safetensors").unlink()
    with pytest.raises(UsageError, match=r"there is no .*reference\.safetensors: copy"):
        judged(build_copy)


def test_a_reference_that_was_changed_judges_nothing(build_copy: Path) -> None:
    path = build_copy / "reference.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    rows = list(judged(build_copy).values())
    assert {row.status for row in rows} == {"error"}
    assert all("is not the one that it was built with" in str(row.reason) for row in rows)


def test_a_build_without_artifacts(build_copy: Path, edit_json: EditJson) -> None:
    edit_json(build_copy / "build.json", artifacts=[])
    with pytest.raises(UsageError, match="holds no artifact"):
        judged(build_copy)


def test_more_lenient_gates_in_a_manifest_that_was_changed_do_not_count(
    build_copy: Path, edit_json: EditJson
) -> None:
    edit_json(build_copy / "onnx" / "manifest.json", gates={"noise": 1e9, "speedup": None})
    row = judged(build_copy)["onnx"]
    assert any(note.startswith("not built here, so limits of its manifest") for note in row.notes)
    assert any("at most 16" in gate.detail for gate in row.gates if gate.gate == "parity")


def test_another_word_for_the_precision_is_no_precision(
    build_copy: Path, edit_json: EditJson
) -> None:
    edit_json(build_copy / "onnx" / "manifest.json", precision="FP32")
    row = judged(build_copy)["onnx"]
    assert row.status is Status.ERROR
    assert "precision" in str(row.reason)


def test_gates_of_the_manifest_are_judged_again(build_copy: Path, edit_json: EditJson) -> None:
    edit_json(build_copy / "onnx" / "manifest.json", gates={"max_abs": 1e-30})
    row = judged(build_copy / "onnx")["onnx"]
    assert row.status is Status.FAILED
    assert str(row.reason).startswith("parity: largest absolute error is")


def test_a_pipe_among_the_changed_models_is_not_waited_on(build_copy: Path) -> None:
    (build_copy / "models" / "0123456789ab").mkdir(parents=True)
    os.mkfifo(build_copy / "models" / "0123456789ab" / "reference.safetensors")
    build = burnish.validate(build_copy / "onnx", speed=False)
    assert [row.status for row in build.artifacts] == [Status.PASSED]


@pytest.mark.parametrize(("name", "value"), [("precision", "int8"), ("task", None)])
def test_a_manifest_that_claims_to_be_judged_otherwise_than_its_build(
    build_copy: Path, edit_json: EditJson, name: str, value: str | None
) -> None:
    edit_json(build_copy / "onnx" / "manifest.json", **{name: value})
    row = judged(build_copy)["onnx"]
    assert row.status is Status.ERROR
    assert f"its manifest says `{name}: {value}`, the build.json beside it" in str(row.reason)
