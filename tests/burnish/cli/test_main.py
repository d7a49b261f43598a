"""Every verb, with and without --json and --quiet; every exit code; errors in words on stderr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from runtimes.machine.devices import absent

Invoke = Callable[..., Result]
EditJson = Callable[..., None]
VERBS = (
    "convert",
    "validate",
    "compare",
    "bench",
    "inspect",
    "run",
    "doctor",
    "keygen",
    "sign",
    "verify",
)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rows(result: Result) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(result.stdout)["artifacts"]}


def test_the_package_runs_as_a_module(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "burnish", "convert", "no-such-recipe"]
    completed = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False
    )
    assert completed.returncode == 2
    assert "no-such-recipe" in completed.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(invoke: Invoke, verb: str) -> None:
    result = invoke(verb, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_help_names_every_verb_and_imports_nothing_heavy(environment: dict[str, str]) -> None:
    code = """
import sys
from burnish.cli import main
sys.argv = ["burnish", "--help"]
try:
    main()
except SystemExit:
    print(sorted({"torch", "onnx", "onnxruntime", "numpy", "pydantic"} & set(sys.modules)), file=sys.stderr)
"""
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert all(verb in completed.stdout for verb in VERBS)
    assert completed.stderr == "[]\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["convrt"],
        ["convert"],
        ["convert", "resnet18", "--no-such-option"],
        ["bench", "x", "--seconds", "0"],
        ["compare"],
    ],
)
def test_wrong_usage_exits_2(invoke: Invoke, arguments: list[str]) -> None:
    assert invoke(*arguments).exit_code == 2


# convert


def test_convert_shows_a_table_that_says_first_that_weights_are_random(
    invoke: Invoke, tiny_recipe: Path, tmp_path: Path
) -> None:
    result = invoke("convert", tiny_recipe, "--output", tmp_path / "out", "--no-speed", "--fresh")
    assert result.exit_code == 0
    assert result.stdout.startswith("RANDOM WEIGHTS (random:0): python:user_tiny:Net")
    assert ["torchscript", "cpu", "passed"] in [
        line.split()[:3] for line in result.stdout.splitlines()
    ]
    assert "loading python:user_tiny:Net" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr, "plain where there is no terminal"


def test_convert_as_json_into_the_default_folder(
    invoke: Invoke, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(
        "convert",
        tiny_recipe,
        "--json",
        "--no-speed",
        "--set",
        "artifacts.torchscript.method=trace",
    )
    assert result.exit_code == 0
    assert rows(result)["torchscript"]["status"] == "passed"
    written = json.loads(
        (tmp_path / "artifacts" / "tiny" / "build.json").read_text(encoding="utf-8")
    )
    assert json.loads(result.stdout) == written
    manifest = json.loads(
        (tmp_path / "artifacts/tiny/torchscript/manifest.json").read_text(encoding="utf-8")
    )
    assert manifest["build"]["method"] == "trace"


def test_a_step_that_ends_in_error_exits_3_and_quiet_prints_nothing(
    invoke: Invoke, tiny_recipe: Path, tmp_path: Path
) -> None:
    setting = "artifacts.bad={format: torchscript, method: script}"
    result = invoke(
        "convert", tiny_recipe, "-o", tmp_path / "out", "--no-speed", "--quiet", "--set", setting
    )
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", "")
    build = json.loads((tmp_path / "out" / "build.json").read_text(encoding="utf-8"))
    assert [row["status"] for row in build["artifacts"]] == ["passed", "error"]


def test_a_gate_that_does_not_hold_exits_1_and_says_which(
    invoke: Invoke, tiny_recipe: Path, tmp_path: Path
) -> None:
    result = invoke(
        "convert", tiny_recipe, "-o", tmp_path / "out", "--no-speed", "--set", "gates.noise=1e-9"
    )
    assert result.exit_code == 1
    assert "torchscript: parity: noise" in result.stdout


def test_a_recipe_error_exits_2_and_leaves_nothing(
    invoke: Invoke, tiny_recipe: Path, tmp_path: Path
) -> None:
    result = invoke(
        "convert",
        tiny_recipe,
        "-o",
        tmp_path / "out",
        "--set",
        "seed=-1",
        "--set",
        "artifacts.onxx={}",
    )
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(
        "error: --set seed=-1: seed: must be greater than or equal to 0, not -1"
    )
    assert "unknown format 'onxx'; did you mean 'onnx'?" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "cudda"], "unknown device 'cudda'; did you mean 'cuda'?"),
        (
            ["--require", "torchscrip"],
            "--require torchscrip: no such artifact; did you mean 'torchscript'?",
        ),
    ],
)
def test_what_can_be_refused_is_refused_before_any_work(
    invoke: Invoke, tiny_recipe: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    result = invoke("convert", tiny_recipe, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "imported").exists()


def test_an_output_folder_that_cannot_be_written_exits_2(
    invoke: Invoke, tiny_recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    result = invoke("convert", tiny_recipe, "-o", tmp_path / "file" / "out", "--quiet")
    assert result.exit_code == 2
    assert f"error: cannot write to {tmp_path / 'file' / 'out'}: " in result.stderr


def test_labels_that_the_model_has_no_class_for_exit_2_and_leave_nothing(
    invoke: Invoke, tiny_recipe: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 4), np.float32), y=np.array([0, 2, 3, 1]))
    data = (
        "--set",
        "task=classification",
        "--set",
        "data={evaluation: {arrays: x.npz, labels: y}}",
    )
    result = invoke("convert", tiny_recipe, "-o", tmp_path / "out", "--quiet", *data)
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        f"error: data.evaluation: the label of {tmp_path / 'x.npz'} [2] is 3, but the model has 3 classes"
        in (result.stderr)
    )
    assert not (tmp_path / "out").exists()


def test_a_factory_that_raises_exits_3_with_its_traceback(
    invoke: Invoke, tiny_recipe: Path, tmp_path: Path
) -> None:
    result = invoke("convert", tiny_recipe, "-o", tmp_path / "out", "-q", "--set", "args={size: 3}")
    assert result.exit_code == 3
    assert f"error: {tiny_recipe}:2: user_tiny:Net raised\n" in result.stderr
    assert "unexpected keyword argument 'size'" in result.stderr
    assert "converters" not in result.stderr


def test_terminal_escapes_in_names_are_made_visible(
    invoke: Invoke, tiny_recipe: Path, tmp_path: Path
) -> None:
    escape = "\x1b]0;owned\x07\x1b[31m"
    recipe = tiny_recipe.read_text(encoding="utf-8").replace(
        "random:0", r'"\x1b]0;owned\x07\x1b[31m.pth"'
    )
    tiny_recipe.write_text(recipe, encoding="utf-8")
    result = invoke("convert", tiny_recipe, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert r"\x1b]0;owned\x07\x1b[31m.pth" in result.stderr
    assert escape not in result.output


# validate


def test_validate_a_build(invoke: Invoke, small_build: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in small_build.rglob("*"))
    result = invoke("validate", small_build, "--no-speed")
    assert result.exit_code == 0
    assert result.stdout.startswith("RANDOM WEIGHTS (random:0): python:small_cnn:build")
    assert "checking the numbers of onnx on cpu" in result.stderr
    assert sorted((path, path.stat().st_mtime_ns) for path in small_build.rglob("*")) == before


def test_validate_as_json_and_quietly(invoke: Invoke, small_build: Path) -> None:
    result = invoke("validate", small_build, "--no-speed", "--json", "--quiet", "--require", "onnx")
    assert (result.exit_code, result.stderr) == (0, "")
    assert rows(result)["onnx"]["status"] == "passed"
    quiet = invoke("validate", small_build / "onnx", "--no-speed", "--quiet")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")


def test_validate_one_artifact(invoke: Invoke, small_build: Path) -> None:
    result = invoke("validate", small_build / "torchscript", "--no-speed", "--json")
    assert result.exit_code == 0
    assert list(rows(result)) == ["torchscript"]
    assert rows(result)["torchscript"]["parity"]["noise"] < 16


def test_a_required_artifact_that_did_not_pass_exits_1(
    invoke: Invoke, build_copy: Path, edit_json: EditJson
) -> None:
    edit_json(build_copy / "onnx" / "manifest.json", gates={"noise": 1e-9})
    result = invoke("validate", build_copy, "--no-speed", "--quiet", "--require", "onnx")
    assert result.exit_code == 1
    assert result.stderr == "error: required, but not passed: onnx\n"


def test_a_required_artifact_that_is_only_built_exits_1(invoke: Invoke, small_build: Path) -> None:
    build = json.loads((small_build / "build.json").read_text(encoding="utf-8"))
    if not any(row["status"] == "built" for row in build["artifacts"]):
        pytest.skip("this machine runs (or cannot build) the TensorRT engine")
    result = invoke("validate", small_build / "tensorrt", "--no-speed", "-q", "--require", "all")
    assert result.exit_code == 1
    assert "required, but not passed: tensorrt" in result.stderr


def test_a_file_that_was_changed_is_an_error(invoke: Invoke, build_copy: Path) -> None:
    flip_a_byte(build_copy / "onnx" / "model.onnx")
    result = invoke("validate", build_copy, "--no-speed", "--json", "--quiet")
    assert result.exit_code == 3
    assert rows(result)["onnx"]["status"] == "error"
    assert "model.onnx was changed after it was made" in rows(result)["onnx"]["reason"]
    assert rows(result)["torchscript"]["status"] == "passed"
    for verb in (["inspect"], ["run"], ["bench"]):
        extra = [build_copy / "image.npy"] if verb == ["run"] else []
        np.save(build_copy / "image.npy", np.zeros((1, 3, 32, 32), np.float32))
        alone = invoke(*verb, build_copy / "onnx", *extra)
        assert alone.exit_code == 3
        assert "model.onnx was changed after it was made" in alone.stderr


def test_validate_of_no_build_exits_2(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("validate", tmp_path)
    assert result.exit_code == 2
    assert "no build at" in result.stderr


# compare


def test_compare_shows_builds_in_one_table(
    invoke: Invoke, small_build: Path, build_copy: Path, edit_json
) -> None:
    edit_json(build_copy / "build.json", model="python:other:build")
    result = invoke("compare", small_build, build_copy)
    assert result.exit_code == 0
    lines = [line for line in result.stdout.splitlines() if " passed " in line]
    assert len(lines) == 4
    assert sum("python:other:build" in line for line in lines) == 2


def test_compare_as_json(invoke: Invoke, small_build: Path) -> None:
    result = invoke("compare", small_build, small_build / "build.json", "--json")
    assert result.exit_code == 0
    written = json.loads((small_build / "build.json").read_text(encoding="utf-8"))
    assert json.loads(result.stdout) == [written, written]


@pytest.mark.parametrize(
    ("status", "code"), [("failed", 1), ("error", 3), ("built", 0), ("skipped", 0)]
)
def test_compare_exits_as_convert_did(
    invoke: Invoke, small_build: Path, build_copy: Path, edit_json: EditJson, status: str, code: int
) -> None:
    row = {"name": "onnx", "format": "onnx", "device": "cpu", "status": status, "reason": "because"}
    edit_json(build_copy / "build.json", artifacts=[row])
    result = invoke("compare", small_build, build_copy)
    assert result.exit_code == code
    assert "onnx: because" in result.stdout


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["table", "json"])
def test_a_reader_that_leaves_changes_no_exit_status(tmp_path: Path, options: list[str]) -> None:
    """`burnish compare DIR | head -1`"""
    row = {
        "name": "onnx",
        "format": "onnx",
        "device": "cpu",
        "status": "error",
        "reason": "because",
    }
    build = {"recipe": {}, "model": "m", "weights": {}, "machine": {}, "artifacts": [row]}
    (tmp_path / "build.json").write_text(json.dumps(build), encoding="utf-8")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "burnish", "compare", str(tmp_path), *options]
    completed = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (completed.returncode, completed.stderr) == (3, "")


@pytest.mark.parametrize(
    ("size", "advice"), [("0", "try 6G"), ("1KB", "try 6G"), ("much", "use bytes, or a unit")]
)
def test_too_little_memory_for_any_step_exits_2(
    invoke: Invoke, tiny_recipe: Path, tmp_path: Path, size: str, advice: str
) -> None:
    result = invoke("convert", tiny_recipe, "-o", tmp_path / "out", "--memory", size)
    assert result.exit_code == 2
    assert size in result.stderr and advice in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"artifacts": []}'])
def test_compare_of_what_is_no_build_exits_2(
    invoke: Invoke, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "build.json").write_text(content, encoding="utf-8")
    result = invoke("compare", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert str(tmp_path) in result.stderr


def test_escapes_in_a_foreign_build_never_reach_the_terminal(
    invoke: Invoke, build_copy: Path, edit_json: EditJson
) -> None:
    evil = "\x1b[2Jevil"
    row = {
        "name": evil,
        "format": "onnx",
        "device": "cpu",
        "status": "failed",
        "reason": evil,
        "notes": [evil],
    }
    edit_json(
        build_copy / "build.json",
        artifacts=[row],
        model=evil,
        notes=[evil],
        weights={"source": evil},
    )
    result = invoke("compare", build_copy)
    assert "\x1b" not in result.output
    assert result.stdout.count(r"\x1b[2Jevil") >= 5


# bench


def test_bench_one_artifact(invoke: Invoke, small_build: Path) -> None:
    result = invoke("bench", small_build / "onnx", "--seconds", "0.5", "--json", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    (speed,) = json.loads(result.stdout).values()
    assert 0 < speed["median_ms"] <= speed["p90_ms"] <= speed["p99_ms"]
    assert speed["speedup"] is None


def test_bench_against_another(invoke: Invoke, small_build: Path) -> None:
    result = invoke(
        "bench", small_build / "onnx", "--vs", small_build / "torchscript", "--seconds", "0.5"
    )
    assert result.exit_code == 0
    assert "times as fast" in result.stdout
    assert "timing " in result.stderr


@pytest.mark.parametrize(
    ("name", "device", "code", "words"),
    [
        ("onnx", "gpu", 2, "unknown device 'gpu'"),
        ("tensorrt", "cpu", 2, "runs on cuda, not on cpu"),
        ("nothing", "cpu", 2, "is not an artifact"),
    ],
)
def test_bench_of_what_cannot_run(
    invoke: Invoke, small_build: Path, name: str, device: str, code: int, words: str
) -> None:
    if name == "tensorrt" and not (small_build / name).exists():
        pytest.skip("tensorrt-rtx is not installed")
    result = invoke("bench", small_build / name, "--device", device, "--seconds", "0.5", "-q")
    assert result.exit_code == code
    assert words in result.stderr


# inspect


def test_inspect_shows_what_a_manifest_says(invoke: Invoke, small_build: Path) -> None:
    result = invoke("inspect", small_build / "onnx")
    assert result.exit_code == 0
    for words in (
        "onnx (onnx, fp32)",
        "python:small_cnn:build",
        "RANDOM (random:0)",
        "image: float32[batch, 3, 32, 32]",
        "logits: float32[batch, 10]",
        "batch: 1 to 8, best at 1",
        "batch 8 of 8",
        "Conv",
        "100.0% of the multiply-adds in fp32",
        "dynamo",
        "20",
    ):
        assert words in result.stdout


@pytest.mark.parametrize(
    ("unfused", "words"),
    [
        (
            [{"layer": "features.6", "operator": "ReduceMean", "why": "no kernel"}],
            "ReduceMean features.6: no kernel",
        ),
        ([], "every pair is fused"),
    ],
)
def test_inspect_names_what_computes_in_float(
    invoke: Invoke, build_copy: Path, unfused: list[dict[str, str]], words: str
) -> None:
    manifest = build_copy / "onnx" / "manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content["build"] |= {"cpu": "arm", "unfused": unfused}
    manifest.write_text(json.dumps(content), encoding="utf-8")
    lines = invoke("inspect", build_copy / "onnx").stdout.splitlines()
    assert [line for line in lines if line.startswith("computes in float") and words in line]
    assert [line.split() for line in lines if line.startswith("cpu")] == [["cpu", "arm"]]


def test_inspect_as_json_is_the_manifest(invoke: Invoke, small_build: Path) -> None:
    result = invoke("inspect", small_build / "onnx", "--json")
    assert json.loads(result.stdout) == json.loads(
        (small_build / "onnx/manifest.json").read_text(encoding="utf-8")
    )


def test_inspect_of_a_build_says_what_to_name(invoke: Invoke, small_build: Path) -> None:
    result = invoke("inspect", small_build)
    assert result.exit_code == 2
    assert "it is a build: name one of the artifacts in it" in result.stderr


def test_escapes_in_a_foreign_manifest_never_reach_the_terminal(
    invoke: Invoke, build_copy: Path, edit_json: EditJson
) -> None:
    edit_json(
        build_copy / "onnx" / "manifest.json",
        model="\x1b[2Jevil",
        weights={"source": "\x1b[2Jevil"},
    )
    result = invoke("inspect", build_copy / "onnx")
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert result.stdout.count(r"\x1b[2Jevil") == 2


# run


@pytest.fixture
def classifier(build_copy: Path, edit_json: EditJson) -> Path:
    """The ONNX artifact with preprocessing and class names."""
    edit_json(
        build_copy / "onnx" / "manifest.json",
        preprocess={"resize": 34, "crop": 32},
        classes=[f"kind {index}" for index in range(10)],
    )
    return build_copy / "onnx"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_run_names_the_best_classes_of_a_picture(
    invoke: Invoke, classifier: Path, picture: Path
) -> None:
    result = invoke("run", classifier, picture)
    assert result.exit_code == 0
    assert str(picture) in result.stdout.replace("\n", "")
    assert result.stdout.count("kind ") == 5
    assert result.stdout.count("%") == 5


def test_run_on_several_pictures_as_json(invoke: Invoke, classifier: Path, picture: Path) -> None:
    result = invoke("run", classifier, picture, picture, "--json", "--top", "2")
    first, second = json.loads(result.stdout)
    assert first == second
    assert len(first["top"]) == 2
    assert first["outputs"]["logits"]["shape"] == [1, 10]
    values = first["outputs"]["logits"]["values"][0]
    assert first["top"][0]["class"] == f"kind {int(np.argmax(values))}"


def test_run_on_an_array_saves_what_onnxruntime_gives(
    invoke: Invoke, small_build: Path, tmp_path: Path
) -> None:
    import onnxruntime

    x = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    result = invoke(
        "run", small_build / "onnx", f"image={tmp_path / 'x.npy'}", "--output", tmp_path / "y.npz"
    )
    assert result.exit_code == 0
    expected = onnxruntime.InferenceSession(str(small_build / "onnx" / "model.onnx")).run(
        None, {"image": x}
    )[0]
    assert np.allclose(np.load(tmp_path / "y.npz")["logits"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (
            np.zeros((1, 3, 32, 31), np.float32),
            "axis 3 is 31, not 32; expected float32[batch, 3, 32, 32]",
        ),
        (np.zeros((9, 3, 32, 32), np.float32), "has batch=9, outside 1..8"),
        (np.zeros((3, 32, 32), np.float32), "has 3 dimensions"),
        (np.zeros((1, 3, 32, 32), np.float64), "has dtype float64"),
    ],
)
def test_run_on_an_array_that_does_not_fit(
    invoke: Invoke, small_build: Path, tmp_path: Path, array: Any, words: str
) -> None:
    np.save(tmp_path / "x.npy", array)
    result = invoke("run", small_build / "onnx", tmp_path / "x.npy")
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


@pytest.mark.parametrize(
    "name", ["missing.png", "text.png", "missing.npy", "text.npy", "objects.npy"]
)
def test_run_on_a_file_that_cannot_be_read(
    invoke: Invoke, classifier: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    (tmp_path / "text.npy").write_text("no array", encoding="utf-8")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    result = invoke("run", classifier, tmp_path / name)
    assert result.exit_code == 2
    assert str(tmp_path / name) in result.stderr


def test_run_on_a_picture_without_preprocessing(
    invoke: Invoke, small_build: Path, picture: Path
) -> None:
    result = invoke("run", small_build / "onnx", picture)
    assert result.exit_code == 2
    assert "its recipe has no `preprocess:`" in result.stderr


@pytest.mark.skipif(absent("cuda") is None, reason="this machine has an NVIDIA GPU")
def test_run_where_the_device_is_missing(invoke: Invoke, small_build: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 32, 32), np.float32))
    result = invoke("run", small_build / "onnx", tmp_path / "x.npy", "--device", "cuda")
    assert result.exit_code == 3
    assert "onnx cannot run on cuda here: no NVIDIA GPU" in result.stderr


# doctor


def test_doctor_says_what_works_here(invoke: Invoke) -> None:
    result = invoke("doctor")
    assert result.exit_code == 0
    for words in (
        "processor",
        "memory",
        "torchscript",
        "onnx",
        "tensorrt",
        "torch-tensorrt",
        "missing",
    ):
        assert words in result.stdout


def test_doctor_as_json(invoke: Invoke) -> None:
    report = json.loads(invoke("doctor", "--json").stdout)
    assert report["machine"]["cores"] >= 1
    assert report["formats"]["onnx"]["build"] is None
    assert report["formats"]["onnx"]["run"]["cpu"] is None
