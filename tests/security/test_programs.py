"""Weights in files that are programs: TorchScript and .pt2. Trusted, their tensors are taken; no code runs."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from torch import nn

from converters.plan.load import load_recipe
from converters.sources.weights import read_state
from tests.security.forgery import Payload

Refused = Callable[..., str]
Invoke = Callable[..., Any]


class Module(nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.body, self.path = nn.Linear(3, 2), path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.path)
        return self.body(x)


class OnLoad(nn.Module):
    """TorchScript that writes a file as soon as torch.jit.load opens it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self):  # type: ignore[no-untyped-def]
        return (torch.zeros(1), self.path, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, str, bool]):  # type: ignore[no-untyped-def]
        torch.save(state[0], state[1])
        self.path = state[1]
        self.training = state[2]


@pytest.fixture(params=["torchscript", "exported"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, nn.Module]:
    """A module and a program that was made of it."""
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    if request.param == "torchscript":
        torch.jit.save(torch.jit.script(module), str(tmp_path / "net.pt"))
        return tmp_path / "net.pt", module
    torch.export.save(torch.export.export(module, (torch.zeros(2, 3),)), tmp_path / "net.pt2")
    return tmp_path / "net.pt2", module


def test_a_program_is_no_checkpoint_unless_it_is_trusted(
    program: tuple[Path, nn.Module], refused: Refused
) -> None:
    path, module = program
    told = refused(read_state, path)
    assert "carries code beside its weights" in told
    assert "`trust: true`" in told
    assert "safetensors.torch.save_file" in told
    found = read_state(path, trust=True)
    assert found.keys() == module.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in module.state_dict().items())


def test_a_recipe_says_that_it_trusts(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    text = (
        "model: torchvision:resnet18\ninputs: {x: {shape: [1, 3, 8, 8]}}\nartifacts: {onnx: {}}\n"
    )
    recipe.write_text(text, encoding="utf-8")
    assert load_recipe(recipe).recipe.trust is False
    recipe.write_text(text + "trust: true\n", encoding="utf-8")
    assert load_recipe(recipe).recipe.trust is True


def test_convert_refuses_a_program_and_takes_it_where_the_recipe_trusts_it(
    tmp_path: Path, marker: Path, invoke: Invoke
) -> None:
    torch.jit.save(torch.jit.script(Module(str(marker))), str(tmp_path / "net.pt"))
    (tmp_path / "linear_user.py").write_text("from torch import nn\n\n\ndef build():\n    m = nn.Module()\n"
                                             "    m = nn.Sequential()\n    m.add_module('body', nn.Linear(3, 2))\n"
                                             "    return m\n", encoding="utf-8")  # fmt: skip
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        dedent("""
            model: python:linear_user:build
            weights: net.pt
            inputs: {x: {shape: [2, 3]}}
            artifacts: {torchscript: {}}
        """),
        encoding="utf-8",
    )
    result = invoke("convert", recipe, "-o", tmp_path / "out", "--no-speed")
    assert result.exit_code == 2
    assert "add `trust: true` to the recipe" in " ".join(result.stderr.split())
    result = invoke("convert", recipe, "-o", tmp_path / "out", "--no-speed", "--set", "trust=true")
    assert result.exit_code == 0
    assert "python:linear_user:build is code that was run, from" in " ".join(result.stdout.split())
    assert not marker.exists()


@pytest.mark.parametrize("trust", [False, True], ids=["", "trusted"])
def test_code_that_runs_on_load_does_not(
    tmp_path: Path, marker: Path, refused: Refused, trust: bool
) -> None:
    path = tmp_path / "net.pt"
    torch.jit.save(torch.jit.script(OnLoad(str(marker))), str(path))
    marker.unlink(missing_ok=True)
    torch.jit.load(str(path))
    assert marker.exists(), "or this test would prove nothing"
    marker.unlink()
    told = refused(read_state, path, trust)
    assert not marker.exists()
    assert ("keeps its state in a custom form" if trust else "carries code") in told


@pytest.mark.parametrize("trust", [False, True], ids=["", "trusted"])
def test_a_program_with_a_pickle_in_it_unpickles_none(
    tmp_path: Path, marker: Path, refused: Refused, trust: bool
) -> None:
    module = nn.Linear(3, 2)
    torch.export.save(torch.export.export(module, (torch.zeros(2, 3),)), tmp_path / "plain.pt2")

    def poisoned(name: str, content: bytes) -> bytes:
        if name.endswith("model_weights_config.json"):
            return content.replace(b'"use_pickle": false', b'"use_pickle": true')
        return pickled(Payload(marker)) if "/weight_" in name else content

    path = rewritten(tmp_path / "plain.pt2", tmp_path / "net.pt2", poisoned)
    told = refused(read_state, path, trust)
    assert not marker.exists()
    assert ("is pickled" if trust else "carries code") in told


def test_a_torchscript_pickle_that_asks_for_code_gets_none(
    tmp_path: Path, marker: Path, refused: Refused
) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(3, 2)), str(tmp_path / "plain.pt"))
    path = rewritten(
        tmp_path / "plain.pt",
        tmp_path / "net.pt",
        lambda name, content: (
            pickle.dumps(Payload(marker), 2) if name.endswith("/data.pkl") else content
        ),
    )
    told = refused(read_state, path, trust=True)
    assert not marker.exists()
    assert "system, which is neither a module nor a tensor" in told


def pickled(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """A copy of a zip file with the content of some members changed."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for member in before.infolist():
            after.writestr(
                member.filename, change(member.filename, before.read(member)), member.compress_type
            )
    return target
