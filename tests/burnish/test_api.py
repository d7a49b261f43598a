"""burnish.convert, burnish.load, burnish.validate."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import burnish
from runtimes.errors import InputError, UsageError
from runtimes.results import Build, Status


def test_convert_returns_what_build_json_says_and_tells_its_progress(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    messages: list[str] = []
    # Without the cache: other tests build the same model, and cached steps report nothing.
    result = burnish.convert(
        tiny_recipe, tmp_path / "out", speed=False, cache=False, progress=messages.append
    )
    assert [row.status for row in result.artifacts] == [Status.PASSED]
    assert result == Build.read(tmp_path / "out")
    assert messages[:2] == ["loading python:user_tiny:Net", "exporting torchscript"]


def test_convert_takes_settings_and_the_default_folder(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    burnish.convert("tiny.yaml", settings=["seed=3"], speed=False)
    assert Build.read(tmp_path / "artifacts" / "tiny").recipe["seed"] == 3


def test_what_was_converted_can_be_loaded_and_run(small_build: Path) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with (
        burnish.load(small_build / "onnx") as onnx,
        burnish.load(small_build / "torchscript", threads=1) as script,
    ):
        assert np.allclose(
            onnx.run({"image": x})["logits"], script.run({"image": x})["logits"], atol=1e-4
        )
        with pytest.raises(InputError, match="missing 'image'"):
            onnx.run({})


def test_load_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not an artifact"):
        burnish.load(tmp_path)


def test_validate_a_build(small_build: Path) -> None:
    build = burnish.validate(small_build, speed=False)
    assert {row.name: row.status for row in build.artifacts if row.device == "cpu"} == {
        "torchscript": Status.PASSED,
        "onnx": Status.PASSED,
    }


@pytest.mark.parametrize("call", [burnish.convert, burnish.validate])
def test_an_unknown_device(call, tiny_recipe: Path) -> None:
    with pytest.raises(UsageError, match="unknown device 'cud'; did you mean 'cuda'"):
        call(tiny_recipe, devices=["cud"])


def test_a_script_without_a_main_guard_runs_once(
    tiny_recipe: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """multiprocessing would run the script again in every child, and each of those would convert again."""
    script = tmp_path / "script.py"
    script.write_text(
        "import burnish\n"
        "print('started')\n"
        f"result = burnish.convert({str(tiny_recipe)!r}, {str(tmp_path / 'out')!r}, speed=False)\n"
        "print(result.artifacts[0].status.value)\n"
        "with burnish.load(result.artifacts[0].path and 'out/torchscript') as session:\n"
        "    print(*session.outputs)\n",
        encoding="utf-8",
    )
    completed = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env=environment,
    )
    assert completed.stderr == ""
    assert completed.stdout.split() == ["started", "passed", "output"]


def test_importing_burnish_imports_nothing_heavy(environment: dict[str, str]) -> None:
    code = "import burnish, json, sys; print(json.dumps(sorted(sys.modules)))"
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert not {"torch", "onnx", "onnxruntime", "numpy", "pydantic", "typer"} & set(
        json.loads(completed.stdout)
    )
