"""The hooks see what raises no audit event, and change nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from converters.steps.child import StepRun
from runtimes.process.process import isolated

Run = Callable[[Path, str], StepRun]


def test_files_of_safetensors_are_dependencies(run: Run, tmp_path: Path) -> None:
    save_file({"weight": np.zeros(2, np.float32)}, tmp_path / "weights.safetensors")
    code = "from safetensors.numpy import load_file; load_file(home / 'weights.safetensors')"
    assert "file weights.safetensors" in run(tmp_path, code).read


def _capabilities() -> tuple[bool, bool, str]:
    from converters.steps.observe.hooks import listen
    from converters.steps.observe.record import Record

    before = (os.stat in os.supports_dir_fd, os.stat in os.supports_follow_symlinks)
    listen(Record())
    after = (os.stat in os.supports_dir_fd, os.stat in os.supports_follow_symlinks)
    folder = Path(os.environ["TMPDIR"]) / "tree"
    (folder / "inner").mkdir(parents=True)
    shutil.rmtree(folder)
    return before == after, folder.exists(), os.stat.__name__


def test_replaced_functions_keep_their_capabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    same, exists, name = isolated(_capabilities, what="the hooks", torch=False)
    assert same and not exists and name == "stat"
