"""A step that runs a piece of Python, in a process of its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from converters.steps.child import StepHost, StepRequest, StepRun
from runtimes.process.process import isolated

Run = Callable[[Path, str], StepRun]
isolate = partial(isolated, what="the step", torch=False)


READS = """
import os, sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reads:
    home: Path
    code: str

    def __call__(self, folder, needs):
        sys.path.insert(0, str(self.home))
        exec(self.code, {"home": self.home, "folder": folder, "os": os, "Path": Path})
"""


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a piece of Python as a step, in a process; it must find the class of the step's action."""
    folder = tmp_path_factory.mktemp("step")
    (folder / "reading_step.py").write_text(READS, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)

    def run(home: Path, code: str) -> StepRun:
        (home / "scratch").mkdir(exist_ok=True)
        reads = importlib.import_module("reading_step").Reads
        request = StepRequest(reads(home, code), home, (home / "ignored", folder))
        step_run: StepRun = isolate(StepHost().run, request, home / "scratch", {})
        return step_run

    return run
