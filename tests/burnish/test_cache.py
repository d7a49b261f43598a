"""`burnish cache` and `burnish convert --explain`: what is kept between builds, and what a build would do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from burnish.cache import size
from runtimes.errors import UsageError

Invoke = Callable[..., Result]


@pytest.fixture
def kept(invoke: Invoke, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one build in it; the folder of its entries."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert invoke("convert", tiny_recipe, "-o", tmp_path / "out", "--no-speed", "-q").exit_code == 0
    return tmp_path / "cache" / "burnish" / "steps" / "entries"


def test_show(invoke: Invoke, kept: Path) -> None:
    shown = invoke("cache")
    assert shown.exit_code == 0
    assert [line.split()[:2] for line in shown.stdout.splitlines()[1:3]] == [
        ["tiny", "torchscript"],
        ["tiny", "load"],
    ]
    assert "2 results" in shown.stdout
    listed = json.loads(invoke("cache", "--json").stdout)
    assert {one["step"] for one in listed} == {"load", "torchscript"}
    assert {Path(one["folder"]) for one in listed} == set(kept.iterdir())


def test_verify_removes_what_is_damaged(invoke: Invoke, kept: Path) -> None:
    assert invoke("cache", "verify").exit_code == 0
    next(kept.glob("*/files/model.pt")).write_bytes(b"")
    found = invoke("cache", "verify")
    assert found.exit_code == 1
    assert "the result of torchscript of tiny was damaged, and is removed" in found.stderr
    assert len(list(kept.iterdir())) == 1
    assert invoke("cache", "verify").exit_code == 0


def test_prune_and_clear(invoke: Invoke, kept: Path) -> None:
    assert invoke("cache", "prune", "--limit", "1G").exit_code == 0
    assert len(list(kept.iterdir())) == 2
    assert invoke("cache", "prune", "--limit", "1").exit_code == 0
    assert list(kept.iterdir()) == []
    assert invoke("cache", "clear").exit_code == 0
    assert not (kept.parent.parent / "verdicts").exists()


@pytest.mark.parametrize("arguments", [["polish"], ["prune", "--limit", "much"], ["prune", "--limit", "-1"]])
def test_wrong_usage(invoke: Invoke, arguments: list[str]) -> None:
    assert invoke("cache", *arguments).exit_code == 2


def test_sizes() -> None:
    assert [size(text) for text in ("0", "10", "1k", "1.5M", "6G", "6gb", "2T")] == [
        0, 10, 1000, 1_500_000, 6 * 10**9, 6 * 10**9, 2 * 10**12,
    ]  # fmt: skip
    for text in ("", "G", "nan", "1e30", "five"):
        with pytest.raises(UsageError, match="is no size"):
            size(text)


def test_explain(invoke: Invoke, kept: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    shown = invoke("convert", tiny_recipe, "-o", tmp_path / "out", "--explain")
    assert shown.exit_code == 0
    assert [line.split() for line in shown.stdout.splitlines()] == [["cached", "load"], ["cached", "torchscript"]]
    setting = "artifacts.torchscript.method=trace"
    shown = invoke("convert", tiny_recipe, "-o", tmp_path / "out", "--explain", "--json", "--set", setting)
    last = json.loads(shown.stdout)[-1]
    assert last == {"step": "torchscript", "cached": False, "why": 'options.method changed "auto" -> "trace"'}


def test_an_unchanged_recipe_is_built_again_without_torch(
    kept: Path, tiny_recipe: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    code = (
        "import sys, burnish\n"
        f"made = burnish.convert({str(tiny_recipe)!r}, {str(tmp_path / 'out')!r}, speed=False)\n"
        "assert all(row.judged for row in made.artifacts)\n"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'tensorrt_rtx'} & set(sys.modules)))\n"
    )
    here = {**environment, "XDG_CACHE_HOME": str(kept.parent.parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=here, check=True)
    assert done.stdout == "[]\n"
