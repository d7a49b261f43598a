"""Artifacts that are programs: none of somebody else runs unasked, and what was built here opens as it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import Result

import burnish
from runtimes.artifact import trust
from runtimes.artifact.artifact import MANIFEST, Artifact, publish
from runtimes.session import RUNTIMES, load
from tests.security.forgery import VERBS, arguments, build_of, graph, rewrite

Foreign = Callable[..., Path]
Refused = Callable[..., str]
Invoke = Callable[..., Result]

PROGRAMS = ("torchscript", "torch-export", "aot-inductor", "tensorrt", "torch-tensorrt")
DATA = ("onnx", "openvino")


class Attack(nn.Module):
    """TorchScript that writes a file when it runs."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.path)
        return x


@pytest.fixture
def scripted(foreign: Foreign, marker: Path, tmp_path: Path) -> Path:
    """A foreign TorchScript artifact that writes a file when it runs."""
    torch.jit.save(torch.jit.script(Attack(str(marker)).eval()), str(tmp_path / "m.pt"))
    return foreign("torchscript", {"model.pt": (tmp_path / "m.pt").read_bytes()}, "model.pt")


def test_the_attack_works_on_who_trusts_it(scripted: Path, marker: Path) -> None:
    with burnish.load(scripted, trust=True) as session:
        session.run({"x": np.zeros((1, 4), np.float32)})
    assert marker.exists(), "or the tests below would prove nothing"


@pytest.mark.parametrize("verb", [*VERBS, ("inspect", "{path}", "--json")], ids=" ".join)
def test_no_verb_runs_a_foreign_program(
    scripted: Path, marker: Path, invoke: Invoke, verb: tuple[str, ...]
) -> None:
    result = invoke(*arguments(verb, scripted))
    assert not marker.exists()
    if verb[0] == "inspect":
        assert result.exit_code == 0
    else:
        assert result.exit_code == (3 if verb[0] == "validate" else 2)
        assert "is a program: opening it runs its author's code" in " ".join(result.output.split())


@pytest.mark.parametrize("verb", VERBS[:3], ids=lambda verb: verb[0])
def test_trust_is_given_by_an_option(
    scripted: Path,
    marker: Path,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
    verb: tuple[str, ...],
) -> None:
    monkeypatch.setattr("burnish.bench.BENCH_LAUNCHES", 1)
    invoke(*arguments(verb, scripted), "--trust")
    assert marker.exists()


def test_validate_trusts_from_python_too(scripted: Path, marker: Path) -> None:
    arguments(("validate",), scripted)
    assert burnish.validate(scripted, speed=False).artifacts[0].status == "error"
    assert not marker.exists()
    assert burnish.validate(scripted, speed=False, trust=True).artifacts[0].status != "error"
    assert marker.exists()


@pytest.mark.parametrize("runtime", PROGRAMS)
def test_programs_of_every_format_ask_for_trust(
    foreign: Foreign, refused: Refused, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    kind = RUNTIMES.get(runtime)
    monkeypatch.setattr(kind, "missing", lambda *given: None)
    monkeypatch.setattr(kind, "open", lambda *given: pytest.fail("it was opened"))
    path = foreign(runtime, {"model": b""}, "model", format="onnx")
    assert f"({runtime}) is a program" in refused(load, path)


def test_every_shipped_format_is_a_program_or_data() -> None:
    assert sorted((*PROGRAMS, *DATA)) == sorted(RUNTIMES.shipped)
    assert {name: RUNTIMES.get(name).runs_code for name in RUNTIMES.shipped} == {
        **dict.fromkeys(PROGRAMS, True),
        **dict.fromkeys(DATA, False),
    }


def test_what_was_built_here_is_opened_and_what_was_changed_since_is_not(
    scripted: Path, tmp_path: Path, refused: Refused
) -> None:
    manifest = Artifact.open(scripted).manifest
    (scripted / MANIFEST).unlink()
    made = publish(scripted, tmp_path / "made", manifest)
    load(shutil.copytree(made.path, tmp_path / "copy")).close()  # wherever it lies
    rewrite(made.path, lambda manifest: manifest.update(name="another"))
    assert "is a program" in refused(load, made.path)


def test_a_build_needs_no_note_that_it_was_made_here(
    small_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))  # where nothing can be noted
    settings = ["artifacts.onnx=null", "artifacts.tensorrt=null"]
    build = burnish.convert(small_recipe, tmp_path / "out", settings=settings, speed=False)
    assert [row.status for row in build.artifacts] == ["passed"]
    assert "is a program" in refused(load, tmp_path / "out" / "torchscript")


def test_notes_of_builds_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(trust, "_LIMIT", 10)
    for number in range(25):
        trust.remember(f"{number:064x}")
        os.utime(tmp_path / "burnish" / "built" / f"{number:064x}", (number, number))
    kept = sorted(path.name for path in (tmp_path / "burnish" / "built").iterdir())
    assert 9 <= len(kept) <= 10
    assert kept[-1] == f"{24:064x}"


def test_an_artifact_of_no_known_runtime_is_told(foreign: Foreign, refused: Refused) -> None:
    assert "unknown runtime" in refused(load, foreign("evil", {"model": b""}, "model"))


@pytest.mark.parametrize("device", ["cuda", "intel-gpu", "intel-npu", "toaster", ""])
def test_devices_that_a_format_does_not_know_are_told(
    foreign: Foreign, refused: Refused, device: str
) -> None:
    path = foreign(
        "onnx", {"model.onnx": graph().SerializeToString()}, "model.onnx", devices=[device]
    )
    refused(load, path)


def test_compare_opens_no_artifact(
    scripted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    monkeypatch.setattr(Artifact, "open", lambda *given: pytest.fail("it was opened"))
    assert invoke("compare", build_of(tmp_path, scripted.name)).exit_code == 0
