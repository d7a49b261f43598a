"""Scripts of benchmarks/: each is listed, says how it is used, and takes data only from where `--data` says."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks"
MODULES = sorted(FOLDER.glob("*.py"))
SCRIPTS = [
    path.name for path in MODULES if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
]
README = (FOLDER / "README.md").read_text(encoding="utf-8")
HEAVY = ["torch", "onnx", "onnxruntime", "openvino", "torchvision"]


WITHOUT_DATA = [
    ("pruning.py",),
    ("pruning.py", "--data", "nowhere"),
    ("pruning_latency.py",),
    ("pruning_latency.py", "--data", "."),
    ("fast_artifacts.py", "--data", "."),
]

_RUN_ALL = """
import contextlib, io, json, pathlib, runpy, sys

folder, heavy, commands = json.loads(sys.argv[1])
sys.path.insert(0, folder)
results = []
for command in commands:
    sys.argv = [str(pathlib.Path(folder) / command[0]), *command[1:]]
    output, status = io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as ended:
            status = ended.code
    results.append([status, output.getvalue(), sorted(set(heavy) & set(sys.modules))])
print(json.dumps(results))
"""


class Ended(NamedTuple):
    """How a script ended: exit status, output, and the heavy packages that it or one before it has loaded."""

    status: int
    output: str
    loaded: list[str]


@pytest.fixture(scope="module")
def ended() -> dict[tuple[str, ...], Ended]:
    """How each command line ends. All are run as `python benchmarks/SCRIPT ...` is, in one new process."""
    commands = [*((script, "--help") for script in SCRIPTS), *WITHOUT_DATA]
    argument = json.dumps([str(FOLDER), HEAVY, commands])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", _RUN_ALL, argument],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert process.returncode == 0, process.stderr
    results = [Ended(*result) for result in json.loads(process.stdout)]
    return dict(zip(commands, results, strict=True))


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 9


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_explains_itself_before_anything_heavy_is_loaded(
    ended: dict[tuple[str, ...], Ended], script: str
) -> None:
    status, output, loaded = ended[script, "--help"]
    assert status == 0, output
    assert output.startswith(f"usage: {script}")
    assert f"python benchmarks/{script}" in output, "its docstring has the command"
    assert loaded == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_listed_with_question_command_minutes_and_result(script: str) -> None:
    [row, *_] = [line for line in README.splitlines() if line.startswith(f"| `{script}` |")]
    _, question, command, minutes, result = (cell.strip() for cell in row.strip("|").split("|"))
    assert question.endswith("?")
    assert f"benchmarks/{script}" in command
    assert minutes
    assert result
    for page in re.findall(r"\]\((.+?)\)", result):
        assert (FOLDER / page).exists()


def test_only_what_exists_is_listed() -> None:
    listed = set(re.findall(r"`(\w+\.py)`", README))
    assert listed == {path.name for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_folder_outside_of_the_repository_is_named(path: Path) -> None:
    """Neither by `..`, nor by parents of the repository's root, nor by an absolute path or a home folder."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    texts = [value for value in constants if isinstance(value, str)]
    assert not [
        text for text in texts if re.match(r"(\.\.(/|$)|~|/\w+/)", text) or text == "shared"
    ]
    source = path.read_text(encoding="utf-8")
    assert "parent.parent.parent" not in source
    assert "HERE.parent.parent" not in source
    assert not re.search(r"parents\[[2-9]", source)


@pytest.mark.parametrize("command", WITHOUT_DATA, ids=" ".join)
def test_without_its_data_a_script_says_what_to_give(
    ended: dict[tuple[str, ...], Ended], command: tuple[str, ...]
) -> None:
    status, output, _ = ended[command]
    assert status == 2, output
    message = output.splitlines()[-1]
    assert re.search(r"error: .*--(data|by-hand)\b", message), message
