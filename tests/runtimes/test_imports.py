"""Imports run one way, and an artifact runs where there is no torch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import runtimes

FOLDER = Path(runtimes.__file__).parent
MODULES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.py"))
TORCH_ENGINES = {
    "engines/_preload.py",
    *(
        module
        for module in MODULES
        if module.startswith("engines/torch/") and not module.endswith("__init__.py")
    ),
}
HEAVY = {
    *("torch", "torchvision", "onnx", "onnxruntime", "onnxscript", "openvino"),
    *("tensorrt", "tensorrt_rtx", "torch_tensorrt", "cryptography"),
}


def imported(nodes: Iterator[ast.AST] | list[ast.stmt]) -> set[str]:
    """The top-level packages that import statements among `nodes` name."""
    packages = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides its package"
            packages.add((node.module or "").split(".")[0])
    return packages


def tree(module: str) -> ast.Module:
    return ast.parse((FOLDER / module).read_text(encoding="utf-8"))


def test_there_are_modules_to_check() -> None:
    assert {"session.py", "validator/validate.py", *TORCH_ENGINES} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_runtimes_never_imports_the_packages_above_it(module: str) -> None:
    assert not imported(ast.walk(tree(module))) & {"converters", "burnish"}


@pytest.mark.parametrize("module", [module for module in MODULES if module not in TORCH_ENGINES])
def test_only_the_torch_engines_mention_torch(module: str) -> None:
    assert not imported(ast.walk(tree(module))) & {"torch", "torchvision", "torch_tensorrt"}


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_are_imported_where_they_are_used(module: str) -> None:
    assert not imported(tree(module).body) & HEAVY


def python(code: str, *paths: Path, arguments: tuple[Path, ...] = ()) -> str:
    """The output of a new interpreter that finds `paths` first."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*paths, FOLDER.parent]))}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_running_an_onnx_artifact_imports_no_torch(small_build: Path) -> None:
    code = """
import sys
import numpy, runtimes
with runtimes.load(sys.argv[1]) as session:
    outputs = session.run({"image": numpy.zeros((3, 3, 32, 32), numpy.float32)})
watched = {"torch", "converters", "burnish", "onnxruntime"}
print(outputs["logits"].shape, sorted(watched & set(sys.modules)))
"""
    assert python(code, arguments=(small_build / "onnx",)) == "(3, 10) ['onnxruntime']\n"


def test_an_onnx_artifact_is_proven_where_torch_cannot_be_imported(
    small_build: Path, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('there is no torch here')\n")
    code = """
import sys
from pathlib import Path
from runtimes.artifact.artifact import Artifact
from runtimes.validator.reference import Reference
from runtimes.validator.validate import Target, validate
build = Path(sys.argv[1])
target = Target(Artifact.open(build / "onnx"), "cpu")
reference = Reference.load(build / "reference.safetensors")
rows = validate([target], reference, lambda device: None, budget=0)
print(rows[0].status, rows[0].reason)
"""
    assert python(code, tmp_path, arguments=(small_build,)) == "passed None\n"


def test_importing_runtimes_imports_nothing_heavy() -> None:
    code = "import sys, runtimes, runtimes.validator.validate; print(' '.join(sys.modules))"
    assert not set(python(code).split()) & HEAVY
