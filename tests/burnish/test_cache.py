"""`burnish cache` and `burnish convert --explain`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from burnish.cache import parse_size
from runtimes.errors import UsageError

Invoke = Callable[..., Result]


@pytest.fixture
def cached(
    invoke: Invoke, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of the entries of a cache with one build in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert invoke("convert", tiny_recipe, "-o", tmp_path / "out", "--no-speed", "-q").exit_code == 0
    return tmp_path / "cache" / "burnish" / "steps" / "entries"


def test_show(invoke: Invoke, cached: Path) -> None:
    shown = invoke("cache")
    assert shown.exit_code == 0
    assert [line.split()[:2] for line in shown.stdout.splitlines()[1:3]] == [
        ["tiny", "torchscript"],
        ["tiny", "load"],
    ]
    assert "2 results" in shown.stdout
    listed = json.loads(invoke("cache", "--json").stdout)
    assert {entry["step"] for entry in listed} == {"load", "torchscript"}
    assert {Path(entry["folder"]) for entry in listed} == set(cached.iterdir())


def test_verify_removes_damaged_entries(invoke: Invoke, cached: Path) -> None:
    assert invoke("cache", "verify").exit_code == 0
    next(cached.glob("*/files/model.pt")).write_bytes(b"")
    result = invoke("cache", "verify")
    assert result.exit_code == 1
    message = "the cached result of torchscript of tiny was damaged, and was removed"
    assert message in result.stderr
    assert len(list(cached.iterdir())) == 1
    assert invoke("cache", "verify").exit_code == 0


def test_prune_and_clear(invoke: Invoke, cached: Path) -> None:
    assert invoke("cache", "prune", "--limit", "1G").exit_code == 0
    assert len(list(cached.iterdir())) == 2
    assert invoke("cache", "prune", "--limit", "1").exit_code == 0
    assert list(cached.iterdir()) == []
    assert invoke("cache", "clear").exit_code == 0
    assert not (cached.parent.parent / "verdicts").exists()


@pytest.mark.parametrize(
    "arguments", [["polish"], ["prune", "--limit", "much"], ["prune", "--limit", "-1"]]
)
def test_wrong_usage(invoke: Invoke, arguments: list[str]) -> None:
    assert invoke("cache", *arguments).exit_code == 2


def test_sizes() -> None:
    sizes = {"0": 0, "10": 10, "1k": 1000, "1.5M": 1_500_000, "6G": 6 * 10**9, "6gb": 6 * 10**9}
    for text, size in {**sizes, "2T": 2 * 10**12}.items():
        assert parse_size(text) == size
    for text in ("", "G", "nan", "1e30", "five"):
        with pytest.raises(UsageError, match="is not a size"):
            parse_size(text)


def test_explain(invoke: Invoke, cached: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    shown = invoke("convert", tiny_recipe, "-o", tmp_path / "out", "--explain")
    assert shown.exit_code == 0
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["cached", "load"],
        ["cached", "torchscript"],
    ]
    setting = "artifacts.torchscript.method=trace"
    shown = invoke(
        "convert", tiny_recipe, "-o", tmp_path / "out", "--explain", "--json", "--set", setting
    )
    last = json.loads(shown.stdout)[-1]
    assert last == {
        "step": "torchscript",
        "cached": False,
        "why": 'options.method changed "auto" -> "trace"',
    }


def test_an_unchanged_recipe_is_built_again_without_torch(
    cached: Path, tiny_recipe: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    code = (
        "import sys, burnish\n"
        f"build = burnish.convert({str(tiny_recipe)!r}, {str(tmp_path / 'out')!r}, speed=False)\n"
        "assert all(row.judged for row in build.artifacts)\n"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'tensorrt_rtx'} & set(sys.modules)))\n"
    )
    variables = {**environment, "XDG_CACHE_HOME": str(cached.parent.parent.parent)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, env=variables, check=True)
    assert result.stdout == "[]\n"
