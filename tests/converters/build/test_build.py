"""Builds: every artifact gets its row, one failure stops no other, and nothing half-written stays."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from converters.build import build as module
from converters.build import publish as publishing
from converters.build.build import build
from converters.build.prove import devices_of
from converters.plan.load import load_recipe
from runtimes.artifact.artifact import Artifact
from runtimes.errors import BurnishError, UsageError
from runtimes.results import Build, Row, Status
from tests.contract import SPEED, missing_keys

Write = Callable[..., Path]

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(module.__file__).parent.parent)}

FACTORY = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.ModuleList([nn.Linear(4, 300), nn.Linear(300, 3)])

    def forward(self, x, *ignored):  # *ignored: the scripting compiler refuses this module
        for layer in self.body:
            x = layer(x)
        return x


def build():
    return Net()


class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)  # ONNX has no such operator


class Moody(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 3)

    def forward(self, x):
        return nn.functional.dropout(self.body(x), 0.5, True)


def moody():
    return Moody()


class Greedy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 3)

    def forward(self, x):
        return self.body(x.add_(1))


def greedy():
    return Greedy()


def bessel():
    return Bessel()


def broken():
    raise RuntimeError("no such luck")


def counted():
    from pathlib import Path
    from time import sleep
    calls = Path(__file__).with_name("calls")
    with calls.open("a") as file:
        file.write("x")
    if len(calls.read_text()) > 2:  # after the load and the first export
        sleep(600)
    return Net()
"""
RECIPE = """
model: python:user_net:build
weights: random:0
inputs:
  x: {shape: [batch, 4]}
dims:
  batch: {min: 1, max: 4}
artifacts:
  torchscript: {}
"""


@pytest.fixture
def net(write: Write) -> Callable[..., Path]:
    """Writes the recipe of a tiny network, with `changes` to its text, beside the network's factory."""

    def net(*changes: tuple[str, str]) -> Path:
        write(FACTORY, "user_net.py")
        text = RECIPE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        return write(text, "net.yaml")

    return net


Net = Callable[..., Path]


def run(recipe: Path, output: Path, **options: Any) -> dict[str, Row]:
    result = build(load_recipe(recipe), output, **{"budget": 0, **options})
    return {row.name: row for row in result.artifacts}


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_build_json_keeps_its_contract(small_build: Path) -> None:
    written = json.loads((small_build / "build.json").read_text(encoding="utf-8"))
    assert missing_keys(written) == set()
    assert [row["name"] for row in written["artifacts"]] == ["torchscript", "onnx", "tensorrt"]
    for row in written["artifacts"]:
        assert {row["speed"][name] for name in SPEED} == {None}, "it was not timed"


def test_statuses_and_measurements_of_a_good_build(small_build: Path) -> None:
    build_result = Build.read(small_build)
    rows = {row.name: row for row in build_result.artifacts}
    assert (build_result.weights["random"], build_result.weights["source"]) == (True, "random:0")
    for name in ("torchscript", "onnx"):
        row = rows[name]
        assert (row.status, row.reason, row.device, row.path) == (Status.PASSED, None, "cpu", name)
        assert row.parity.noise is not None
        assert row.parity.noise < 16
        assert row.parity.top1_agreement == 1.0
        assert row.size_bytes == Artifact.open(small_build / name).size_bytes


def test_what_a_build_leaves_on_disk(small_build: Path) -> None:
    expected = {"build.json", "logs", "onnx", "reference.safetensors", "steps.json", "torchscript"}
    assert set(entries(small_build)) - {"tensorrt"} == expected
    for name in ("torchscript", "onnx"):
        Artifact.open(small_build / name).verify()


def test_a_manifest_says_how_the_artifact_was_made(small_build: Path) -> None:
    manifest = Artifact.open(small_build / "onnx").manifest
    assert manifest.weights["source"] == "random:0"
    assert manifest.build["options"]["opset"] == 20
    assert manifest.build["exporter"] == "dynamo"
    assert manifest.build["versions"]["torch"].startswith("2.")
    assert manifest.build["model_args"] == {"width": 8}
    assert (manifest.model, manifest.task, list(manifest.outputs)) == (
        "python:small_cnn:build",
        "classification",
        ["logits"],
    )


def test_the_engine_is_built_where_it_cannot_run(small_build: Path) -> None:
    if not (small_build / "tensorrt").exists():
        pytest.skip("tensorrt-rtx is not installed")
    row = next(row for row in Build.read(small_build).artifacts if row.name == "tensorrt")
    assert row.device == "cuda"
    assert row.size_bytes
    if row.status is Status.BUILT:
        assert row.reason is not None
        assert "no NVIDIA GPU" in row.reason


def test_one_failure_does_not_stop_the_others_and_every_row_says_how_it_ended(
    net: Net, tmp_path: Path
) -> None:
    recipe = net(
        (
            "torchscript: {}",
            "scripted: {format: torchscript, method: script}\n"
            "  wrong-gpu: {format: tensorrt, flavor: rtx, compute_capabilities: ['99.9']}\n"
            "  torch-tensorrt: {}\n"
            "  strict: {format: torchscript, gates: {noise: 1.0e-9}}\n"
            "  torchscript: {}",
        ),
    )
    rows = run(recipe, tmp_path / "out")
    assert list(rows) == ["scripted", "wrong-gpu", "torch-tensorrt", "strict", "torchscript"]
    assert rows["scripted"].status is Status.ERROR
    assert "this model cannot be exported" in str(rows["scripted"].reason)
    assert rows["strict"].status is Status.FAILED
    assert str(rows["strict"].reason).startswith("parity: noise (output at ")
    assert (rows["torchscript"].status, rows["torchscript"].reason) == (Status.PASSED, None)
    if rows["wrong-gpu"].status is not Status.SKIPPED:  # without tensorrt-rtx
        assert rows["wrong-gpu"].status is Status.ERROR
        assert "cannot build for compute capability 99.9" in str(rows["wrong-gpu"].reason)
    if (
        rows["torch-tensorrt"].status is Status.SKIPPED
    ):  # on a machine with a driver it may be built
        assert "torch-tensorrt" in str(rows["torch-tensorrt"].reason)
    assert all(
        row.path is None and row.size_bytes is None
        for row in rows.values()
        if row.status in (Status.ERROR, Status.SKIPPED)
    )
    assert {"strict", "torchscript"} <= set(entries(tmp_path / "out"))
    assert not {"scripted", "wrong-gpu", ".work"} & set(entries(tmp_path / "out"))
    manifest = Artifact.open(tmp_path / "out" / "torchscript").manifest
    assert manifest.build["method"] == "trace"
    assert "script" in manifest.build["failed"], "why scripting failed is recorded"


@pytest.mark.skipif(not find_spec("tensorrt_rtx"), reason="tensorrt-rtx is not installed")
def test_a_graph_that_cannot_be_made_is_the_reason_of_every_engine(
    net: Net, tmp_path: Path
) -> None:
    engines = "fp32: {format: tensorrt, flavor: rtx}\n  fp16: {format: tensorrt, flavor: rtx, precision: fp16}"
    rows = run(net(("build\n", "bessel\n"), ("torchscript: {}", engines)), tmp_path / "out")
    for row in rows.values():
        assert row.status is Status.ERROR
        assert str(row.reason).startswith(
            "needs the step 'graph-auto-opset20', which failed: no way"
        )
    logs = [name for name in entries(tmp_path / "out" / "logs") if name.endswith(".log")]
    assert logs == ["graph-auto-opset20.log", "load.log"], "it is tried once"


def test_an_older_artifact_is_replaced_whole(net: Net, tmp_path: Path) -> None:
    run(net(), output := tmp_path / "out")
    (output / "torchscript" / "stray.txt").write_text("mine", encoding="utf-8")
    (output / "notes.txt").write_text("mine", encoding="utf-8")
    before = Artifact.open(output / "torchscript").manifest
    rows = run(net(("random:0", "random:1")), output)
    after = Artifact.open(output / "torchscript")
    after.verify()
    assert rows["torchscript"].status is Status.PASSED
    assert after.manifest.weights["source"] == "random:1"
    assert after.manifest.files["model.pt"].sha256 != before.files["model.pt"].sha256
    assert (output / "notes.txt").exists(), "what is not Burnish's stays"
    assert not [name for name in entries(output) if name.startswith(".")]


def test_the_output_cannot_be_written(net: Net, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    recipe = net()
    before = entries(tmp_path)
    for output in (tmp_path / "file", tmp_path / "file" / "out" / "deep"):
        with pytest.raises(UsageError, match="cannot write to"):
            run(recipe, output)
    assert entries(tmp_path) == before


def test_a_load_that_fails_leaves_nothing(net: Net, tmp_path: Path) -> None:
    with pytest.raises(
        BurnishError, match=r"(?s)net\.yaml:2: user_net:broken raised.*no such luck"
    ) as caught:
        run(net(("build\n", "broken\n")), tmp_path / "out")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "out").exists()


def test_a_load_that_fails_leaves_an_older_build_as_it_was(net: Net, tmp_path: Path) -> None:
    run(net(), output := tmp_path / "out")
    written = (output / "build.json").read_bytes()
    with pytest.raises(UsageError, match="no weights for"):
        run(net(("random:0", "gone.pth")), output)
    assert (output / "build.json").read_bytes() == written
    Artifact.open(output / "torchscript").verify()
    assert ".work" not in entries(output)


def test_a_disk_that_fills_up_while_an_artifact_is_published(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(publishing, "publish", full)
    row = run(net(), tmp_path / "out")["torchscript"]
    assert (row.status, row.reason) == (
        Status.ERROR,
        "cannot write torchscript: No space left on device",
    )
    assert entries(tmp_path / "out") == [
        "build.json",
        "logs",
        "reference.safetensors",
        "steps.json",
    ]


def test_a_disk_that_is_full_from_the_start(net: Net, tmp_path: Path) -> None:
    """A limit on the size of files stands for it: the model's state does not fit."""
    code = (
        f"import burnish; burnish.convert({str(net())!r}, {str(tmp_path / 'out')!r}, speed=False)"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    completed = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        timeout=120,
        cwd=tmp_path,
        env=ENVIRONMENT,
    )
    assert completed.returncode != 0
    assert "runtimes." in completed.stderr.splitlines()[-1], (
        "an error of Burnish's own, not one from the depths"
    )
    assert not (tmp_path / "out").exists()


def test_build_json_is_written_whole_or_not_at_all(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(net(), output := tmp_path / "out")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "write_atomically", full)
    with pytest.raises(BurnishError, match=r"cannot write .*build\.json: No space left on device"):
        run(net(), output)
    assert "build.json" not in entries(output), "the old one told of artifacts that may be replaced"
    assert not [name for name in entries(output) if name.startswith(".")]


def test_ctrl_c_keeps_what_is_finished_and_nothing_else(net: Net, tmp_path: Path) -> None:
    recipe = net(("build\n", "counted\n"), ("torchscript: {}", "torchscript: {}\n  onnx: {}"))
    command = [sys.executable, "-c", "from burnish.cli import main; main()"]
    process = subprocess.Popen(
        [
            *command,
            "convert",
            str(recipe),
            "--output",
            str(tmp_path / "out"),
            "--no-speed",
            "--jobs",
            "1",
        ],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**ENVIRONMENT, "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    calls = tmp_path / "calls"

    def finished() -> list[str]:
        return [path.parent.name for path in (tmp_path / "out").glob("*/manifest.json")]

    until(lambda: calls.exists() and len(calls.read_text()) > 2 and bool(finished()))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; finished artifacts stay" in stderr
    assert "Traceback" not in stderr
    # The reference stays with what is finished, so that it can be judged.
    [name] = finished()
    assert entries(tmp_path / "out") == sorted(["logs", "reference.safetensors", name])
    Artifact.open(tmp_path / "out" / name).verify()
    until(lambda: not group(process.pid))


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def group(leader: int) -> list[int]:
    """Living processes of a process group."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return members


def test_an_artifact_is_judged_on_the_devices_that_it_can_run_on(net: Net) -> None:
    plan = load_recipe(net(("torchscript: {}", "torchscript: {}\n  tensorrt: {flavor: rtx}")))
    torchscript, tensorrt = plan.artifacts
    assert devices_of(torchscript, ("cpu", "cuda")) == ["cpu", "cuda"]
    assert devices_of(tensorrt, ("cpu", "cuda")) == ["cuda"]
    assert devices_of(tensorrt, ("cpu",)) == ["cuda"], "it has no other"


def test_the_devices_of_an_artifact_follow_its_precision(net: Net) -> None:
    plan = load_recipe(net(("torchscript: {}", "onnx: {}\n  low: {format: onnx, precision: bf16}")))
    onnx, low = plan.artifacts
    assert devices_of(onnx, ("cpu",)) == ["cpu"]
    assert devices_of(low, ("cpu",)) == ["cuda"], "ONNX Runtime's CPU has no kernels for it"


def test_no_other_format_starts_from_an_optimized_graph(small_recipe: Path, tmp_path: Path) -> None:
    """It is bound to ONNX Runtime, or to a CPU; all formats share the plain graph."""
    settings = [
        "artifacts.torchscript=null",
        "artifacts.onnx=null",
        "artifacts.fast.format=onnx",
        "artifacts.fast.optimize=all",
        "artifacts.fused.format=onnx",
        "artifacts.fused.optimize=extended",
        "artifacts.plain.format=onnx",
    ]
    build_result = build(load_recipe(small_recipe, settings), tmp_path / "out", budget=0)
    status = {row.name: row.status for row in build_result.artifacts}
    assert [status[name] for name in ("fast", "fused", "plain")] == ["passed"] * 3
    assert status["tensorrt"] in ("built", "passed", "skipped"), (
        "TensorRT reads standard operators alone"
    )
    assert not [name for name in build_result.seconds if name.startswith("graph-")], (
        "the plain artifact is the graph"
    )
    operators = {}
    for name in ("fast", "fused", "plain"):
        operators[name] = Artifact.open(tmp_path / "out" / name).manifest.build["operators"]
    assert "ReorderOutput" in operators["fast"] and "FusedConv" in operators["fused"]
    assert not {"ReorderOutput", "FusedConv"} & operators["plain"].keys()


def test_speed_is_measured_against_eager(net: Net, tmp_path: Path) -> None:
    row = run(net(), tmp_path / "out", budget=0.5)["torchscript"]
    speed = row.speed
    assert speed.eager_ms is not None
    assert speed.median_ms is not None
    assert speed.speedup is not None
    assert speed.ci95 is not None
    assert speed.ci95[0] <= speed.speedup <= speed.ci95[1]
    assert [gate.gate for gate in row.gates[-2:]] == ["speed", "deadline"]


def test_what_a_pass_made_is_timed_beside_the_same_format_without_it(
    net: Net, tmp_path: Path
) -> None:
    quantized = "data: {calibration: {random: 0, samples: 2}}\nartifacts:\n  onnx: {}\n"
    quantized += (
        "  onnx-int8: {format: onnx, gates: {parent_speedup: 0}, passes: [{quantize: int8}]}\n"
    )
    quantized += "  old-int8: {format: onnx, opset: 19, gates: {parent_speedup: 0}, passes: [{quantize: int8}]}"
    rows = run(net(("artifacts:\n  torchscript: {}", quantized)), tmp_path / "out", budget=0.1)
    parents = {name: row.speed.parent for name, row in rows.items()}
    assert parents["onnx"] is None
    assert parents["onnx-int8"] is not None, "the recipe has its parent"
    assert parents["onnx-int8"].name == "onnx"
    assert parents["old-int8"] is not None, "a parent of the same opset was made for it"
    assert parents["old-int8"].name == "old-int8-float"
    assert all(parent is None or parent.speedup for parent in parents.values())
    assert not any(path.name.endswith("-float") for path in (tmp_path / "out").iterdir())


def test_a_model_that_does_not_repeat_itself_proves_nothing(net: Net, tmp_path: Path) -> None:
    row = run(net(("user_net:build", "user_net:moody")), tmp_path / "out")["torchscript"]
    assert row.status is Status.FAILED
    assert "reference: two runs of the eager model" in str(row.reason)


def test_a_model_that_writes_to_its_input_is_still_deterministic(net: Net, tmp_path: Path) -> None:
    result = build(
        load_recipe(net(("user_net:build", "user_net:greedy"))), tmp_path / "out", budget=0
    )
    assert [row.status for row in result.artifacts] == [Status.PASSED]
    assert not [note for note in result.notes if "deterministic" in note]
    assert any("python:user_net:greedy is code that was run, from" in note for note in result.notes)


@pytest.mark.parametrize("name", ["torchscript", "build.json", "reference.safetensors", "models"])
def test_what_no_build_made_is_not_replaced(net: Net, tmp_path: Path, name: str) -> None:
    mine = tmp_path / "out" / name
    folder = name in ("torchscript", "models")
    mine.mkdir(parents=True) if folder else mine.parent.mkdir()
    users_file = mine / "notes.txt" if folder else mine
    users_file.write_text("mine", encoding="utf-8")
    (tmp_path / "out" / "logs").mkdir()  # as projects have one, too
    with pytest.raises(UsageError, match=f"holds {name}, which Burnish did not make"):
        run(net(), tmp_path / "out")
    assert users_file.read_text(encoding="utf-8") == "mine"
    assert entries(tmp_path / "out") == sorted(["logs", name])
